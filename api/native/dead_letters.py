"""`/dead-letters`: jobs that failed for good. Operators reach all tenants."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import structlog
from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import StreamingResponse

from api.answers import Json, checked_id, listing, page, require
from api.auth import AnyCaller
from api.memory import EXPORT_BYTES
from api.native.jobs import USUAL_ROWS, Limit
from api.native.letter_filters import Chosen, SelectedByQuery, selected
from api.native.serializers import dead_letter_object, group_object, story_object, whole_letter_object
from api.requests import JsonBody, OfMemory, OfPrivacy, OfServices, documented, parse
from schemas.bounds import MAX_NODES, fits
from schemas.errors import InvalidRequest
from schemas.ids import JobId
from schemas.jsons import NEW_LINE, JsonObject, dumps
from schemas.replay import DeadLetters, NewReplay
from storage.dead_letters.reads import MAX_LETTER_BYTES, WholeLetter
from tasks.dead_letters.export_format import Reader
from tasks.dead_letters.patch_request import Changes, patch_from
from tasks.requests.chat import DEFAULT_DEADLINE_SECONDS, MAX_DEADLINE_SECONDS
from tasks.requests.new_ids import new_replay_id
from tasks.wiring.web import WebServices

log = structlog.get_logger()

router = APIRouter(prefix="/dead-letters", tags=["dead letters"])

JSON_LINES = "application/x-ndjson"
MAX_LINE_BYTES = MAX_LETTER_BYTES + 1_000_000
"""A letter's content and its other fields."""

MAX_LINE_NODES = 5 * MAX_NODES
"""JSON values of a line; parsed, they take some 50 MB."""


UNWRITABLE = "This letter cannot be written as JSON; an operator finds why in the log under its id."


class SmallReplay(Chosen):
    """Dead letters to replay at once. `body` replaces each request."""

    body: JsonObject | None = None
    max_cost_usd: str | int | float | None = None
    deadline_seconds: float = Field(default=DEFAULT_DEADLINE_SECONDS, gt=0, le=MAX_DEADLINE_SECONDS)


@router.get("")
async def list_dead_letters(
    which: SelectedByQuery, services: OfServices, *, after: str | None = None, limit: Limit = USUAL_ROWS
) -> Json:
    """List dead letters, newest first."""
    cursor = None if after is None else JobId(checked_id(after, "dead letter"))
    return page(await services.dead_letters.newest(which, after=cursor, most=limit + 1), limit, dead_letter_object)


@router.get("/groups")
async def group_dead_letters(which: SelectedByQuery, services: OfServices) -> Json:
    """Count dead letters by cause, the most frequent first."""
    return listing([group_object(group) for group in await services.dead_letters.groups(which)])


@router.get("/export")
async def export_dead_letters(
    which: SelectedByQuery, services: OfServices, privacy: OfPrivacy, memory: OfMemory
) -> StreamingResponse:
    """Stream dead letters with requests and attempts as JSON lines, newest first."""
    memory.take_buffers(EXPORT_BYTES)
    return StreamingResponse(_lines(services, which, content=privacy.store_content), media_type=JSON_LINES)


@router.post("/import")
async def import_dead_letters(
    request: Request,
    caller: AnyCaller,
    services: OfServices,
    *,
    dry_run: bool = False,
    first_line: Annotated[int, Query(ge=1)] = 1,
) -> Json:
    """Import the lines of an export, or none if any is invalid.

    Lines are numbered from `first_line`. A dry run only checks them. Known letters are skipped.
    """
    reader = Reader(
        tenant_id=caller.tenant_scope,
        default_tenant_id=caller.tenant_id,
        tenants=await services.keys.tenants(),
        schema_complaint=services.vocabulary.schema_complaint,
        lanes=caller.lanes_of(services.share(caller.tenant_id)),
        most_nodes=MAX_LINE_NODES,
    )
    sent: AsyncIterator[bytes] = request.stream()
    if caller.tenant_scope is not None and not dry_run:
        sent = services.quotas.counted(caller.tenant_scope, sent)
    taken = await services.imports.take(
        _split(sent, first_line), reader, datetime.now(UTC), first_line=first_line, dry_run=dry_run
    )
    return Json({"checked": taken.checked, "imported": taken.imported, "known": taken.known})


@router.get("/{job_id}")
async def show_dead_letter(job_id: str, caller: AnyCaller, services: OfServices, privacy: OfPrivacy) -> Json:
    """Show a dead letter with its attempts, requests, replies, complaints and costs."""
    selection = DeadLetters(tenant_id=caller.tenant_scope, ids=(JobId(checked_id(job_id, "dead letter")),))
    letters = await services.dead_letters.newest(selection, most=1)
    letter = require(letters[0] if letters else None, "dead letter", job_id)
    story = require(await services.reads.story(letter.id, letter.tenant_id), "dead letter", job_id)
    shown = story_object(story, content=privacy.store_content)
    hidden: JsonObject = {} if privacy.store_content else {"request": None}
    return Json(dead_letter_object(letter) | shown | hidden | {"object": "dead_letter"})


@router.post("/replay", openapi_extra=documented(SmallReplay))
async def replay_dead_letters(caller: AnyCaller, body: JsonBody, services: OfServices) -> Json:
    """Return dead letters to their lanes at once, with new tries and a new deadline."""
    request = parse(SmallReplay, body)
    changes = Changes(deadline_seconds=request.deadline_seconds, body=request.body, max_cost_usd=request.max_cost_usd)
    new = NewReplay(
        id=new_replay_id(),
        tenant_id=caller.tenant_scope,
        which=selected(caller, request),
        patch=patch_from(changes, services.vocabulary, datetime.now(UTC)),
    )
    if caller.tenant_scope is not None:
        await services.quotas.room_for_jobs(caller.tenant_scope)
    return _moved("replayed", await services.replay.replay_now(new), request)


@router.post("/discard", openapi_extra=documented(Chosen))
async def discard_dead_letters(caller: AnyCaller, body: JsonBody, services: OfServices) -> Json:
    """Discard dead letters: they stay dead, and are neither listed nor replayed."""
    selection = parse(Chosen, body)
    return _moved("discarded", await services.replay.discard(selected(caller, selection)), selection)


def _moved(key: str, moved: Sequence[JobId], selection: Chosen) -> Json:
    missing = [job_id for job_id in dict.fromkeys(selection.ids or []) if job_id not in set(moved)]
    if selection.ids is not None and not moved:
        require(None, "dead letter", ", ".join(missing[:3]))
    return Json({key: list(moved), "not_found": missing})


async def _lines(services: WebServices, which: DeadLetters, *, content: bool) -> AsyncIterator[bytes]:
    async for letter in services.dead_letters.whole(which):
        yield _line(letter, content=content)
        await asyncio.sleep(0)


def _line(letter: WholeLetter, *, content: bool) -> bytes:
    """Return one line of an export; an unwritable letter yields a notice."""
    try:
        line = _written(letter, content=content)
        if len(line) <= MAX_LINE_BYTES and fits(line, MAX_LINE_NODES):
            return line
        return _written(replace(letter, attempts=(), is_cut=True), content=content)
    except (TypeError, ValueError):
        log.exception("letter_unwritable", job_id=letter.letter.id)
        notice = {"id": letter.letter.id, "object": "dead_letter", "reason": letter.letter.reason, "error": UNWRITABLE}
        return dumps(notice, NEW_LINE)


def _written(letter: WholeLetter, *, content: bool) -> bytes:
    return dumps(whole_letter_object(letter, content=content), NEW_LINE)


async def _split(parts: AsyncIterator[bytes], first_line: int) -> AsyncIterator[bytes]:
    """Yield lines. Raises InvalidRequest with the number of a line that is too long."""
    rest, number = bytearray(), first_line
    async for part in parts:
        *lines, last = part.split(b"\n")
        for line in lines:
            rest += line
            _check_length(rest, number)
            yield bytes(rest)
            rest.clear()
            number += 1
        rest += last
        _check_length(rest, number)
    if rest:
        yield bytes(rest)


def _check_length(line: bytearray, number: int) -> None:
    if len(line) > MAX_LINE_BYTES:
        raise InvalidRequest(f"line {number}: it may have at most {MAX_LINE_BYTES} bytes. Nothing was imported.")
