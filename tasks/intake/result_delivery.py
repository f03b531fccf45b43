"""Delivers results of `completions.complete` to the caller's backend, at least once.

Delivery is recorded afterwards, so a crash in between delivers twice.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from schemas.accepted import JobResult
from schemas.errors import PenstockError
from schemas.ids import JobId
from schemas.jsons import JsonObject
from schemas.money import usd_text
from schemas.states import JobState
from storage.tenancy.celery_results import Delivery
from tasks.maintenance.items import Isolation, reason_of

DELIVERED_AT_ONCE = 16
"""Each delivery reads once and blocks a thread; more would only wait for connections."""


class JobNotCompleted(PenstockError):  # noqa: N818 - reads as what happened
    """The job ended without an answer."""

    code = "job_not_completed"


class Backend(Protocol):
    """Stores results in Celery's format."""

    async def succeed(self, task_id: str, value: JsonObject) -> None:
        """Raises RedisUnavailable."""

    async def fail(self, task_id: str, error: Exception) -> None:
        """Raises RedisUnavailable."""


class Promises(Protocol):
    """Stores which results callers await."""

    async def notice_rested(self) -> int:
        """Make results ready whose jobs ended unnoticed."""

    async def ready(self) -> Sequence[Delivery]:
        """List undelivered results of terminal jobs."""

    async def delivered(self, task_ids: Sequence[str]) -> int:
        """Mark results as delivered."""


class Ends(Protocol):
    """Reads jobs' results."""

    async def rested(self, job_id: JobId) -> JobResult | None:
        """Read a result; None while the job is not terminal."""


class Deliveries:
    """Delivers ready results."""

    def __init__(
        self, promises: Promises, ends: Ends, backend: Backend, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._promises = promises
        self._ends = ends
        self._backend = backend
        self._isolation = Isolation("deliver", end=self._refuse, clock=clock)

    async def deliver(self) -> int:
        """Deliver a round; returns how many. Raises RedisUnavailable and PostgresUnavailable."""
        await self._promises.notice_rested()
        ready, delivered = list(await self._promises.ready()), 0
        for start in range(0, len(ready), DELIVERED_AT_ONCE):
            some = ready[start : start + DELIVERED_AT_ONCE]
            results = await asyncio.gather(
                *(self._isolation.run(promise.task_id, partial(self._deliver, promise)) for promise in some)
            )
            sent = [promise.task_id for promise, number in zip(some, results, strict=True) if number]
            delivered += await self._promises.delivered(sent)
        return delivered

    async def _deliver(self, promise: Delivery) -> int:
        """Return 0 when the job was replayed meanwhile."""
        result = await self._ends.rested(promise.job_id)
        if result is None:
            return 0
        if result.state is JobState.COMPLETED:
            await self._backend.succeed(promise.task_id, completed_job(result))
        else:
            await self._backend.fail(promise.task_id, JobNotCompleted(_sentence(result)))
        return 1

    async def _refuse(self, task_id: str, error: Exception) -> None:
        """Deliver an error for an unwritable result, or the caller waits for ever."""
        await self._backend.fail(task_id, JobNotCompleted(f"The result cannot be delivered. {reason_of(error)}"))
        await self._promises.delivered([task_id])


def completed_job(result: JobResult) -> JsonObject:
    """Return a completed job for its Celery caller; `reply` is the chat completion object."""
    return {
        "id": result.job_id,
        "state": result.state.value,
        "lane": result.lane.value,
        "served_by": result.served_by,
        "reply": result.reply,
        "cost_usd": usd_text(result.cost_nano_usd),
    }


def _sentence(result: JobResult) -> str:
    why = result.message or result.dead_reason or result.state.value
    return f"The job {result.job_id} is {result.state.value} ({result.dead_reason or result.state.value}): {why}"
