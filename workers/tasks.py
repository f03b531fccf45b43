"""Defines the three Celery tasks, a fixed interface.

    completions.run       internal: a slice of ids, each run when it gets its slot
    completions.submit    a caller's body; the result is the job's id, at once
    completions.complete  a caller's body; the result is the completed job, once it is terminal

Our own backend writes the results, off the loop.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import structlog
from celery.exceptions import Reject

from schemas.errors import InvalidRequest, PenstockError, ShareUsedUp, Unavailable
from schemas.job import Published
from tasks.dispatch.publisher import RUN_TASK
from tasks.intake.celery_messages import CallerMessage, lane_of, run_slice
from workers.broker.message_strategy import ETA_NOTE, SIZE_NOTE
from workers.broker.worker_app import WorkerApp
from workers.pool.bridge import AsyncTask, was_cancelled
from workers.services import WorkerServices

T = TypeVar("T")

log = structlog.get_logger()

SUBMIT_TASK = "completions.submit"
COMPLETE_TASK = "completions.complete"

PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Pauses between attempts while a store is unreachable; then the message is requeued."""

FAULT = "The job was not taken in because of a fault of ours. It is logged; sending it again is safe."

REFUSED: Mapping[str, str] = {
    "callbacks": "link",
    "errbacks": "link_error",
    "chain": "chain",
    "chord": "chord",
    ETA_NOTE: "eta and countdown",
}
"""Celery features that messages may not use, by the envelope's name."""


class LaneTask(AsyncTask):
    """A coroutine task without results in Celery."""

    abstract = True
    ignore_result = True
    acks_late = True
    throws = (InvalidRequest, ShareUsedUp)  # the caller's mistake: no traceback
    Strategy = "workers.broker.message_strategy:strategy"
    Request = "workers.broker.message_strategy:ClosedRequest"


def add_tasks(app: WorkerApp) -> None:
    """Register the three tasks."""

    @app.task(name=RUN_TASK, base=LaneTask, bind=True)  # type: ignore[untyped-decorator]  # Celery ships no types
    async def run(task: LaneTask, *args: object) -> None:
        await _run(app, task.request, args)

    @app.task(name=SUBMIT_TASK, base=LaneTask, bind=True)  # type: ignore[untyped-decorator]
    async def submit(task: LaneTask, *args: object, **kwargs: object) -> str:
        return await _take_in(app, task, args, kwargs)

    @app.task(name=COMPLETE_TASK, base=LaneTask, bind=True)  # type: ignore[untyped-decorator]
    async def complete(task: LaneTask, *args: object, **kwargs: object) -> str:
        return await _take_in(app, task, args, kwargs)


async def _run(app: WorkerApp, request: Any, args: tuple[object, ...]) -> None:  # noqa: ANN401 - Celery's
    lane = lane_of(_queue(request))
    app.metrics.messages.labels(lane, RUN_TASK, "taken").inc()

    async def in_slot(published: Published) -> None:
        async with app.slots.held(lane):
            await app.services.run(published)

    try:
        await run_slice(args[0] if len(args) == 1 else None, in_slot)
    except (TypeError, ValueError):  # only parsing raises these: errors of jobs are logged with their ids
        app.metrics.messages.labels(lane, RUN_TASK, "refused").inc()
        log.warning("message_refused", reason="no slice of version 1", task=RUN_TASK, task_id=request.id, lane=lane)
    except asyncio.CancelledError:
        if was_cancelled():
            raise
        # else one job of the slice lost its lease and was cancelled: another process may run it now


async def _take_in(app: WorkerApp, task: LaneTask, args: tuple[object, ...], kwargs: Mapping[str, object]) -> str:
    request = task.request
    lane = lane_of(_queue(request))
    app.metrics.messages.labels(lane, task.name, "taken").inc()
    try:
        _refuse_canvas(request)
        message = CallerMessage(
            body=_body(task.name, args, kwargs),
            task_id=request.id,
            queue=_queue(request),
            size_bytes=request.get(SIZE_NOTE) or 0,
        )
        return await _patiently(lambda: _accept(app.services, task, message))
    except Reject:
        raise
    except (InvalidRequest, ShareUsedUp) as error:
        app.metrics.messages.labels(lane, task.name, "refused").inc()
        log.info("message_refused", reason=error.code, param=error.param, task=task.name, task_id=request.id)
        if not request.ignore_result:
            refusal = error
            await _patiently(lambda: app.services.results.fail(request.id, refusal))
        raise
    except Exception:  # the tracer logs the traceback; the caller must not wait for ever
        app.metrics.messages.labels(lane, task.name, "failed").inc()
        if not request.ignore_result:
            await _patiently(lambda: app.services.results.fail(request.id, PenstockError(FAULT)))
        raise


def tell_revoked(app: WorkerApp, *, sender: LaneTask, request: Any, expired: bool = False, **_: object) -> None:  # noqa: ANN401 - Celery's
    """End a caller's `get` when its message was revoked or expired before acceptance. Main thread."""
    if sender.name in {SUBMIT_TASK, COMPLETE_TASK} and not request.ignore_result:
        app.lifespan.soon(_revoke(app, request.id, "expired" if expired else "revoked"))


async def _revoke(app: WorkerApp, task_id: str, reason: str) -> None:
    try:
        await app.services.results.revoke(task_id, reason)
    except Unavailable as error:
        log.warning("revoke_not_told", task_id=task_id, reason=error.message)


async def _accept(services: WorkerServices, task: LaneTask, message: CallerMessage) -> str:
    accepted = await services.submit(message)
    if not task.request.ignore_result:
        deliver = services.expect if task.name == COMPLETE_TASK else services.results.succeed
        await deliver(message.task_id, accepted.job_id)
    return accepted.job_id


def _refuse_canvas(request: Any) -> None:  # noqa: ANN401 - Celery's
    names = [name for field, name in REFUSED.items() if request.get(field)]
    for field in REFUSED:
        setattr(request, field, None)  # else the tracer would publish them nevertheless
    if names:
        raise InvalidRequest(f"{', '.join(names)}: not supported here. Send the body alone and wait for its result.")


def _body(name: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
    if len(args) != 1 or kwargs:
        raise InvalidRequest(f"{name} takes one positional argument, the body, and no others.")
    return args[0]


async def _patiently(step: Callable[[], Awaitable[T]], pauses_seconds: Sequence[float] = PAUSES_SECONDS) -> T:
    """Repeat the step while a store is unreachable, then requeue the message."""
    for pause_seconds in pauses_seconds:
        try:
            return await step()
        except Unavailable:
            await asyncio.sleep(pause_seconds)
    try:
        return await step()
    except Unavailable as error:
        log.warning("message_returned", reason=error.message)
        raise Reject(error.message, requeue=True) from error


def _queue(request: Any) -> str:  # noqa: ANN401 - Celery's
    return str((request.delivery_info or {}).get("routing_key"))
