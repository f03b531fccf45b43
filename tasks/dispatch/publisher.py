"""Publishes job ids and generations to the workers, never a prompt.

Messages may be lost or doubled: upkeep publishes lost jobs again, and doubled ones have a stale generation.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError, OperationalError

from schemas.errors import RedisUnavailable
from schemas.ids import ID, JobId
from schemas.job import Published
from schemas.lanes import Lane

RUN_TASK = "completions.run"

HIGHEST_GENERATION = 2**31 - 1

MESSAGE_VERSION = 1
PIPELINE_MESSAGES = 500

HIDDEN_ARGUMENTS = "(…)"
"""Replaces arguments in events and logs, which would show up to 1,024 characters."""


class Publisher:
    """Publishes one call at a time. Blocking sockets run in a thread."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def publish(self, lane: Lane, jobs: Sequence[Published], slice_size: int = 1) -> int:
        """Send the jobs in slices; returns the number of messages.

        Raises RedisUnavailable, possibly after some were sent.
        """
        slices = list(_slices(jobs, slice_size))
        async with self._turn:
            await asyncio.to_thread(self._send, lane, slices)
        return len(slices)

    async def empty_lanes(self) -> frozenset[Lane]:
        """List lanes without a waiting message. Raises RedisUnavailable."""
        async with self._turn:
            return await asyncio.to_thread(self._empty_lanes)

    def _empty_lanes(self) -> frozenset[Lane]:
        try:
            with self._app.producer_or_acquire() as producer:
                return frozenset(lane for lane in Lane if not producer.channel.client.llen(lane.queue))
        except (OperationalError, *self._app.connection_for_write().connection_errors) as error:
            raise RedisUnavailable from error

    def _send(self, lane: Lane, slices: Sequence[Sequence[Published]]) -> None:
        try:
            with self._app.producer_or_acquire() as producer, producer.batch(max_size=PIPELINE_MESSAGES):
                for part in slices:
                    self._app.send_task(
                        RUN_TASK,
                        args=[message(part)],
                        queue=lane.queue,
                        producer=producer,
                        argsrepr=HIDDEN_ARGUMENTS,
                        kwargsrepr=HIDDEN_ARGUMENTS,
                        retry=False,
                        ignore_result=True,
                    )
        except (KombuError, OSError) as error:  # a batch that was not sent whole is no OperationalError
            raise RedisUnavailable from error


def message(jobs: Sequence[Published]) -> Mapping[str, Any]:
    """Build the body of one message."""
    return {"v": MESSAGE_VERSION, "jobs": [[job.job_id, job.generation] for job in jobs]}


def parse_message(body: Any) -> list[Published]:  # noqa: ANN401 - unparsed
    """Parse a message. Raises ValueError for anything that `message` did not build."""
    if not isinstance(body, dict) or body.get("v") != MESSAGE_VERSION or not isinstance(body.get("jobs"), list):
        raise ValueError("not a completions.run message of version 1")
    return [_published(*pair) for pair in body["jobs"]]


def _published(job_id: Any, generation: Any) -> Published:  # noqa: ANN401 - unparsed
    """Raises ValueError."""
    if not isinstance(job_id, str) or ID.fullmatch(job_id) is None:
        raise ValueError("not the id of a job")
    if not isinstance(generation, int) or not 0 <= generation <= HIGHEST_GENERATION:
        raise ValueError("not the generation of a job")
    return Published(job_id=JobId(job_id), generation=generation)


def _slices(jobs: Sequence[Published], size: int) -> Iterator[Sequence[Published]]:
    for start in range(0, len(jobs), size):
        yield jobs[start : start + size]
