"""`/v1/batches`: upkeep reads a new batch's file later."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from api.answers import Json, checked_id, page, require, unix
from api.auth import AnyCaller, Caller
from api.openai.files import find_file
from api.requests import Body, JsonBody, OfServices, documented, parse
from schemas.errors import InvalidRequest
from schemas.ids import BatchId
from schemas.jsons import JsonObject
from schemas.lanes import Lane, parse_lane, usual_lane
from schemas.money import usd_text
from schemas.states import JobState
from schemas.stop_loss import Phase
from storage.batches.batches import BatchTable, StoredBatch

router = APIRouter(prefix="/v1/batches", tags=["batches"])

MOST_METADATA = 16
FAILED = (JobState.DEAD, JobState.EXPIRED, JobState.CANCELLED)


class ExpiresAfter(Body):
    """Lifetime of the result files."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3_600, le=2_592_000)


class NewBatch(Body):
    """A batch request. `lane` may also stand in the metadata."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = Field(
        default=None, max_length=MOST_METADATA
    )
    output_expires_after: ExpiresAfter | None = None
    lane: str | None = None


@router.post("", openapi_extra=documented(NewBatch))
async def create_batch(caller: AnyCaller, body: JsonBody, services: OfServices) -> Json:
    """Create a batch from an uploaded file."""
    request = parse(NewBatch, body)
    file = await find_file(request.input_file_id, caller, services.files)
    lanes = caller.lanes_of(services.share(caller.tenant_id))
    batch = await services.intake.create_batch(
        caller.tenant_id,
        file.id,
        endpoint=request.endpoint,
        completion_window=request.completion_window,
        metadata=request.metadata,
        lane=_lane(request, lanes),
        lanes=None if caller.key_lanes is None else lanes,
    )
    return Json(batch_object(batch))


@router.get("")
async def list_batches(
    caller: AnyCaller,
    services: OfServices,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Json:
    """List batches, newest first."""
    cursor = None if after is None else BatchId(checked_id(after, "batch"))
    rows = await services.batches.newest(caller.tenant_id, after=cursor, most=limit + 1)
    return page(rows, limit, batch_object)


@router.get("/{batch_id}")
async def retrieve_batch(batch_id: str, caller: AnyCaller, services: OfServices) -> Json:
    """Show a batch."""
    return Json(batch_object(await _find_batch(batch_id, caller, services.batches)))


@router.post("/{batch_id}/cancel")
async def cancel_batch(batch_id: str, caller: AnyCaller, services: OfServices) -> Json:
    """Stop a batch; running jobs may finish. Safe to call twice."""
    before = await _find_batch(batch_id, caller, services.batches)
    stopped = await services.batches.cancel(before.id, caller.tenant_id)
    after = await _find_batch(batch_id, caller, services.batches)
    if not stopped and after.status not in {"cancelling", "cancelled"}:
        raise InvalidRequest(f"A batch that is {after.status} cannot be cancelled.", param="id")
    return Json(batch_object(after))


@router.post("/{batch_id}/proceed")
async def proceed_batch(batch_id: str, caller: AnyCaller, services: OfServices) -> Json:
    """Release a batch that its canary holds. Safe to call twice."""
    before = await _find_batch(batch_id, caller, services.batches)
    released = await services.stop_losses.proceed(before.id, caller.tenant_id)
    after = await _find_batch(batch_id, caller, services.batches)
    if not released and after.phase not in {Phase.RELEASING, Phase.WATCHED}:
        raise InvalidRequest("Nothing of this batch is held by a canary.", param="id")
    return Json(batch_object(after))


def batch_object(batch: StoredBatch) -> JsonObject:
    """Return a batch in OpenAI's shape."""
    fields: JsonObject = {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": None,
        "errors": {"object": "list", "data": [_error(error) for error in batch.errors]} if batch.errors else None,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": unix(batch.created_at),
        "request_counts": _counts(batch),
        "usage": None,
        "metadata": batch.metadata,
    }
    moments = {name: unix(moment) for name, moment in batch.moments.items()}
    return fields | moments | ({} if batch.phase is None else {"stop_loss": _stop_loss(batch)})


def _stop_loss(batch: StoredBatch) -> JsonObject:
    terms = batch.stop_loss
    return {
        "phase": batch.phase,
        "max_cost_usd": None if terms.max_cost_nano_usd is None else usd_text(terms.max_cost_nano_usd),
        "max_error_rate": terms.max_error_rate,
        "canary": terms.canary,
        "projected_usd": None if batch.projected_nano_usd is None else usd_text(batch.projected_nano_usd),
        "stopped": batch.stopped,
    }


def _counts(batch: StoredBatch) -> dict[str, int]:
    jobs = batch.jobs_by_state
    return {
        "total": max(batch.total, sum(jobs.values())),
        "completed": jobs.get(JobState.COMPLETED, 0),
        "failed": sum(jobs.get(state, 0) for state in FAILED),
    }


def _error(error: JsonObject) -> JsonObject:
    return {name: error.get(name) for name in ("code", "message", "param", "line")}


def _lane(request: NewBatch, lanes: frozenset[Lane]) -> Lane:
    name = request.lane or (request.metadata or {}).get("lane")
    return usual_lane(Lane.NORMAL, lanes) if name is None else parse_lane(name, lanes)


async def _find_batch(batch_id: str, caller: Caller, batches: BatchTable) -> StoredBatch:
    checked = BatchId(checked_id(batch_id, "batch"))
    return require(await batches.find(checked, caller.tenant_id), "batch", batch_id)
