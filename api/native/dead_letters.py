"""`/dead-letters`: what could not be saved, why, and the way back to work. An operator reaches those of all tenants."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from api.answers import Json, checked_id, known, page, whole
from api.auth import AnyCaller, Caller
from api.house import House
from api.native.jobs import USUAL_ROWS, Limit
from api.native.shapes import dead_letter_object, group_object, story_object
from api.requests import JsonBody, OfHouse, StrictBody, documented, new_job, parse
from schemas.decision import DeadReason
from schemas.errors import InvalidRequest
from schemas.ids import BatchId, JobId
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from storage.replay import DeadLetters
from tasks.requests import DEFAULT_DEADLINE_SECONDS, MAX_DEADLINE_SECONDS, max_cost

router = APIRouter(prefix="/dead-letters", tags=["dead letters"])

MOST_IDS = 1_000


class Filter(StrictBody):
    """Which dead letters are meant; what is not said does not restrict."""

    reason: DeadReason | None = Field(default=None, strict=False)
    batch_id: str | None = None
    model: str | None = None


class Chosen(StrictBody):
    """Either ids or a filter; an empty filter means all."""

    ids: Annotated[list[str], Field(min_length=1, max_length=MOST_IDS)] | None = None
    filter: Filter | None = None


class Replay(Chosen):
    """What goes back to work, and under which new terms. `body` replaces the request of each."""

    body: JsonObject | None = None
    max_cost_usd: str | int | float | None = None
    deadline_seconds: float = Field(default=DEFAULT_DEADLINE_SECONDS, gt=0, le=MAX_DEADLINE_SECONDS)


@router.get("")
async def list_dead_letters(
    caller: AnyCaller,
    house: OfHouse,
    *,
    reason: DeadReason | None = None,
    batch_id: str | None = None,
    model: str | None = None,
    after: str | None = None,
    limit: Limit = USUAL_ROWS,
) -> Json:
    """List dead letters, the latest first."""
    which = _which(caller, Filter(reason=reason, batch_id=batch_id, model=model))
    cursor = None if after is None else JobId(checked_id(after, "dead letter"))
    return page(await house.dead_letters.newest(which, after=cursor, most=limit + 1), limit, dead_letter_object)


@router.get("/groups")
async def group_dead_letters(caller: AnyCaller, house: OfHouse) -> Json:
    """Count dead letters by reason and model, the most frequent first."""
    return whole([group_object(group) for group in await house.dead_letters.groups(caller.reach)])


@router.get("/{job_id}")
async def show_dead_letter(job_id: str, caller: AnyCaller, house: OfHouse) -> Json:
    """Tell the whole story: every attempt, request, reply, complaint and cost."""
    wanted = DeadLetters(tenant_id=caller.reach, job_id=JobId(checked_id(job_id, "dead letter")))
    found = await house.dead_letters.newest(wanted, most=1)
    letter = known(found[0] if found else None, "dead letter", job_id)
    story = known(await house.reads.story(letter.id, letter.tenant_id), "dead letter", job_id)
    return Json(dead_letter_object(letter) | story_object(story) | {"object": "dead_letter"})


@router.post("/replay", openapi_extra=documented(Replay))
async def replay_dead_letters(caller: AnyCaller, body: JsonBody, house: OfHouse) -> Json:
    """Give dead letters back to their lanes, with a new count of tries and a new deadline."""
    wanted = parse(Replay, body)
    cost = max_cost({} if wanted.max_cost_usd is None else {"max_cost_usd": wanted.max_cost_usd})
    request = None if wanted.body is None else _checked_body(wanted.body, caller, house)
    replayed: list[JobId] = []
    for which in _meant(caller, wanted):
        replayed += await house.replay.replay(
            which, deadline_seconds=wanted.deadline_seconds, body=request, max_cost_nano_usd=cost
        )
    return _moved("replayed", replayed, wanted)


@router.post("/discard", openapi_extra=documented(Chosen))
async def discard_dead_letters(caller: AnyCaller, body: JsonBody, house: OfHouse) -> Json:
    """Put dead letters aside: they stay dead, and are no longer listed nor replayed."""
    wanted = parse(Chosen, body)
    discarded: list[JobId] = []
    for which in _meant(caller, wanted):
        discarded += await house.replay.discard(which)
    return _moved("discarded", discarded, wanted)


def _meant(caller: Caller, wanted: Chosen) -> list[DeadLetters]:
    if (wanted.ids is None) == (wanted.filter is None):
        raise InvalidRequest("Say either ids or filter; an empty filter means all dead letters.", param="ids")
    if wanted.filter is not None:
        return [_which(caller, wanted.filter)]
    ids = dict.fromkeys(JobId(checked_id(job_id, "dead letter")) for job_id in wanted.ids or [])
    return [DeadLetters(tenant_id=caller.reach, job_id=job_id) for job_id in ids]


def _which(caller: Caller, chosen: Filter) -> DeadLetters:
    if "\0" in (chosen.model or ""):
        raise InvalidRequest("model must not hold NUL characters.", param="model")
    return DeadLetters(
        tenant_id=caller.reach,
        reason=chosen.reason,
        batch_id=None if chosen.batch_id is None else BatchId(checked_id(chosen.batch_id, "batch")),
        model=chosen.model,
    )


def _checked_body(body: JsonObject, caller: Caller, house: House) -> JsonObject:
    """The new request as a job would keep it. Raises what a new job with it would raise."""
    return new_job(body, caller, house, lane=Lane.NORMAL, idempotency_key=None).body


def _moved(word: str, moved: Sequence[JobId], wanted: Chosen) -> Json:
    missing = [job_id for job_id in wanted.ids or [] if job_id not in moved]
    if wanted.ids is not None and not moved:
        known(None, "dead letter", ", ".join(missing[:3]))
    return Json({word: list(moved), "not_found": missing})
