"""`/replays`: replays of dead letters, with dry run, pacing and canaries."""

from datetime import UTC, datetime

from fastapi import APIRouter
from pydantic import Field

from api.answers import Json, checked_id, page, require
from api.auth import AnyCaller, Caller
from api.native.jobs import USUAL_ROWS, Limit
from api.native.letter_filters import Chosen, selected
from api.native.serializers import estimate_object, outcomes_object, replay_object
from api.requests import IdempotencyKey, JsonBody, OfServices, checked_key, documented, parse
from schemas.errors import InvalidRequest
from schemas.ids import ReplayId
from schemas.lanes import checked_lane
from schemas.replay import DEFAULT_THRESHOLD, NewReplay, Replay
from tasks.dead_letters.patch_request import Changes, patch_from
from tasks.requests.new_ids import new_replay_id
from tasks.wiring.web import WebServices

router = APIRouter(prefix="/replays", tags=["dead letters"])

MOST_CANARIES = 10_000
MOST_PER_SECOND = 100_000


class WantedReplay(Chosen):
    """Dead letters to replay, changes and pace. A dry run returns the price only."""

    patch: Changes = Field(default_factory=Changes)
    canary: int = Field(default=0, ge=0, le=MOST_CANARIES)
    threshold: float = Field(default=DEFAULT_THRESHOLD, gt=0, le=1)
    per_second: float | None = Field(default=None, gt=0, le=MOST_PER_SECOND)
    dry_run: bool = False


@router.post("", openapi_extra=documented(WantedReplay))
async def start_replay(
    caller: AnyCaller, body: JsonBody, services: OfServices, *, idempotency_key: IdempotencyKey = None
) -> Json:
    """Start a replay, which upkeep carries out. Safe to call twice under one idempotency key."""
    request = parse(WantedReplay, body)
    new = _new(request, caller, services, idempotency_key)
    if request.dry_run:
        return Json(estimate_object(await services.prices.estimate(new.which, new.patch, datetime.now(UTC))))
    if caller.tenant_scope is not None:
        await services.quotas.room_for_jobs(caller.tenant_scope)
    return Json(replay_object(await services.replays.create(new)))


@router.get("")
async def list_replays(
    caller: AnyCaller, services: OfServices, *, after: str | None = None, limit: Limit = USUAL_ROWS
) -> Json:
    """List replays, newest first."""
    cursor = None if after is None else ReplayId(checked_id(after, "replay"))
    return page(await services.replays.newest(caller.tenant_scope, after=cursor, most=limit + 1), limit, replay_object)


@router.get("/{replay_id}")
async def show_replay(replay_id: str, caller: AnyCaller, services: OfServices) -> Json:
    """Show a replay's progress and its jobs' outcomes."""
    replay = await _find_replay(replay_id, caller, services)
    return Json(replay_object(replay) | outcomes_object(await services.replays.outcomes(replay.id)))


@router.post("/{replay_id}/cancel")
async def cancel_replay(replay_id: str, caller: AnyCaller, services: OfServices) -> Json:
    """Stop a replay; jobs replayed already continue. Safe to call twice."""
    cancelled = await services.replays.cancel(ReplayId(checked_id(replay_id, "replay")), caller.tenant_scope)
    replay = await _find_replay(replay_id, caller, services)
    if not cancelled and replay.state != "cancelled":
        raise InvalidRequest(f"A replay that is {replay.state} cannot be cancelled.", param="id")
    return Json(replay_object(replay))


@router.post("/{replay_id}/resume")
async def resume_replay(replay_id: str, caller: AnyCaller, services: OfServices) -> Json:
    """Resume a replay that its canaries stopped."""
    resumed = await services.replays.resume(ReplayId(checked_id(replay_id, "replay")), caller.tenant_scope)
    replay = await _find_replay(replay_id, caller, services)
    if not resumed and not replay.state.under_way:
        raise InvalidRequest(f"A replay that is {replay.state} cannot be resumed.", param="id")
    return Json(replay_object(replay))


def _new(request: WantedReplay, caller: Caller, services: WebServices, key: str | None) -> NewReplay:
    if request.patch.lane is not None:
        checked_lane(request.patch.lane, caller.lanes_of(services.share(caller.tenant_id)))
    return NewReplay(
        id=new_replay_id(),
        tenant_id=caller.tenant_scope,
        which=selected(caller, request),
        patch=patch_from(request.patch, services.vocabulary, datetime.now(UTC)),
        canary=request.canary,
        threshold=request.threshold,
        per_second=request.per_second,
        idempotency_key=checked_key(key),
    )


async def _find_replay(replay_id: str, caller: Caller, services: WebServices) -> Replay:
    checked = ReplayId(checked_id(replay_id, "replay"))
    return require(await services.replays.find(checked, caller.tenant_scope), "replay", replay_id)
