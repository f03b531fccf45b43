"""A worker for tests: our tasks, pool, slots and lanes on services that write what it did into Redis.

celery -A tests.support.worker_app worker -Q completions.low

A job's id says what it does: `sleep_0.5_NAME` sleeps, `fail_NAME` is a bug, anything else ends at once. Bodies of
callers: `{"fault": "invalid"}` is refused, `{"fault": "away"}` finds Postgres away the first time. With `HOLDS_STOP` a
stop goes no further than its first step until somebody pushes onto that list.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import redis
from celery import bootsteps
from redis.asyncio import Redis

from config.metrics import Metrics
from config.settings import load_settings
from schemas.accepted import Submission
from schemas.errors import InvalidRequest, PostgresUnavailable
from schemas.ids import JobId
from schemas.job import Published
from schemas.lanes import Lane
from schemas.states import JobState
from tasks.dispatch.celery_app import celery_app
from tasks.intake.celery_messages import CallerMessage, lane_of
from tasks.intake.result_backend import ResultBackend
from workers.build import assemble
from workers.pool.bridge import AsyncTask

QUICK_JOBS = 100
"""Jobs called `quick_` are counted by the hundred, so that counting is not what is measured."""

STARTED, ENDED, PEAK, BY = "test:started", "test:ended", "test:peak", "test:by"
"""Hashes of job id to the moment, the most jobs at once, per process, and who ran a job, by its process id."""

HANDED_BACK = "test:handed_back"
"""Hash of job id to the moment when it was cancelled, and had the time to say so."""

HOLDS_STOP = "TEST_HOLDS_STOP"
STOP_BEGUN = "test:stop_begun"


class FakeServices:
    """Runs jobs by their ids' words."""

    def __init__(self, notes: "Redis[Any]", results: ResultBackend) -> None:
        self._notes, self.results = notes, results
        self._at_once = self._peak = 0
        self._away, self._quick = True, 0

    async def run(self, published: Published) -> None:
        verb, _, rest = published.job_id.partition("_")
        if verb == "quick":
            self._quick += 1
            if self._quick % QUICK_JOBS == 0:
                await self._notes.incrby("test:quick", QUICK_JOBS)
            return
        await self._notes.hsetnx(STARTED, published.job_id, str(time.time()))
        await self._notes.hincrby("test:starts", published.job_id, 1)
        await self._notes.hset(BY, published.job_id, str(os.getpid()))
        self._at_once += 1
        if self._at_once > self._peak:
            self._peak = self._at_once
            await self._notes.hset(PEAK, str(os.getpid()), str(self._peak))
        try:
            if verb == "sleep":
                await asyncio.sleep(float(rest.partition("_")[0]))
            if verb == "fail":
                raise LookupError("a bug")
            await self._notes.hset(ENDED, published.job_id, str(time.time()))
        except asyncio.CancelledError:
            await self._notes.hset(HANDED_BACK, published.job_id, str(time.time()))
            raise
        finally:
            self._at_once -= 1

    async def submit(self, message: CallerMessage) -> Submission:
        fault = message.body.get("fault") if isinstance(message.body, Mapping) else "invalid"
        if fault == "invalid":
            raise InvalidRequest("messages must be a non-empty array.", param="messages")
        if fault == "bug":
            raise LookupError("a bug")
        if fault == "away" and self._away:
            self._away = False
            raise PostgresUnavailable
        lane = lane_of(message.queue)
        return Submission(job_id=JobId(f"job_{lane.value}"), state=JobState.QUEUED, generation=0, lane=lane)

    async def cancel(self, task_ids: Sequence[str]) -> int:
        if task_ids:
            await self._notes.rpush("test:cancelled", *task_ids)
        return len(task_ids)

    async def expect(self, task_id: str, job_id: JobId) -> None:
        await self.results.succeed(task_id, {"id": job_id, "reply": "done"})


@asynccontextmanager
async def open_fake_services(redis_url: str) -> AsyncIterator[FakeServices]:
    notes = Redis.from_url(redis_url, decode_responses=True, max_connections=1_000)
    await notes.incr("test:opened")
    yield FakeServices(notes, ResultBackend(celery_app(redis_url)))
    await notes.incr("test:closed")
    await notes.aclose()


class HeldStop(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Stands between the moment when a worker begins to stop and the moment when its pool hears of it."""

    def stop(self, c: Any) -> None:  # noqa: ANN401 - Celery's consumer
        """Wait for the word."""
        with redis.Redis.from_url(settings.redis_url.get_secret_value()) as notes:
            notes.set(STOP_BEGUN, "1")
            notes.blpop([os.environ[HOLDS_STOP]])


settings = load_settings()
app = assemble(settings, partial(open_fake_services, settings.redis_url.get_secret_value()), Metrics())

if HOLDS_STOP in os.environ:
    app.steps["consumer"].add(HeldStop)


@app.task(name="tests.own_request", base=AsyncTask, bind=True)  # type: ignore[untyped-decorator]  # Celery ships no types
async def own_request(task: AsyncTask, mark: str) -> None:
    """Note whose request this task sees, after others have run meanwhile."""
    before = task.request.id
    await asyncio.sleep(0.01)
    async with app.slots.held(Lane.NORMAL):
        seen = {"mark": mark, "before": before, "after": task.request.id, "args": task.request.args}
    connection = redis.Redis.from_url(settings.redis_url.get_secret_value())
    connection.rpush("test:requests", json.dumps(seen))
    connection.close()
