"""Runs the three Celery tasks without Celery.

Task names, the one positional argument and the queue as the lane are public and fixed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from schemas.errors import InvalidRequest
from schemas.ids import DEFAULT_TENANT, MOST_ID_CHARACTERS, JobId, TenantId
from schemas.job import NewJob, Published
from schemas.jsons import dumps
from schemas.lanes import Lane, checked_lane
from schemas.tenants import TenantShare, no_limits
from tasks.dispatch.publisher import parse_message
from tasks.requests.chat import Origin, Vocabulary, parse_chat_request

log = structlog.get_logger()


async def run_slice(body: Any, run: Callable[[Published], Awaitable[None]]) -> int:  # noqa: ANN401 - unparsed
    """Run the jobs of a slice concurrently; returns their number.

    A bug is logged and leaves its job to the lease.
    """
    jobs = parse_message(body)
    ends = await asyncio.gather(*(run(job) for job in jobs), return_exceptions=True)
    for job, end in zip(jobs, ends, strict=True):
        if isinstance(end, asyncio.CancelledError):
            raise end
        if isinstance(end, BaseException):
            log.error("job_run_failed", job_id=job.job_id, exc_info=end)
    return len(jobs)


@dataclass(frozen=True, kw_only=True, slots=True)
class CallerMessage:
    """Holds a message's body and Celery properties.

    `size_bytes` is the size on the wire; 0 where it was not counted.
    """

    body: Any
    task_id: str
    queue: str
    size_bytes: int = 0


def job_from_message(
    message: CallerMessage,
    vocabulary: Vocabulary,
    *,
    job_id: JobId,
    now: datetime,
    tenants: frozenset[str],
    max_body_bytes: int,
    share_of: Callable[[TenantId], TenantShare] = no_limits,
) -> NewJob:
    """Turn a message into a job on its queue's lane. Raises InvalidRequest.

    Broker access is operator trust: the body may name any existing tenant. The size limit is that of HTTP.
    """
    if not isinstance(message.body, Mapping):
        raise InvalidRequest("The one positional argument must be a JSON object, the same body as over HTTP.")
    # on the wire it may be longer than over HTTP, because Celery's JSON escapes non-ASCII
    if message.size_bytes > max_body_bytes and len(dumps(message.body)) > max_body_bytes:
        raise InvalidRequest(f"The body may have at most {max_body_bytes} bytes.")
    body = dict(message.body)
    tenant_id = _tenant(body.pop("tenant", DEFAULT_TENANT), tenants)
    lanes = share_of(tenant_id).lanes
    origin = Origin(
        tenant_id=tenant_id,
        job_id=job_id,
        default_lane=checked_lane(lane_of(message.queue), lanes),
        idempotency_key=message.task_id,
        lanes=lanes,
    )
    return parse_chat_request(body, origin, vocabulary, now)


def lane_of(queue: str) -> Lane:
    """Return a queue's lane; normal for an unknown queue."""
    return next((lane for lane in Lane if lane.queue == queue), Lane.NORMAL)


def _tenant(name: Any, tenants: frozenset[str]) -> TenantId:  # noqa: ANN401 - unparsed
    if not isinstance(name, str):
        raise InvalidRequest("tenant must be a string.", param="tenant")
    if name not in tenants:
        raise InvalidRequest(f"There is no tenant {name[:MOST_ID_CHARACTERS]!r}.", param="tenant")
    return TenantId(name)
