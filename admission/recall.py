"""Finds admit calls whose reply was lost and releases reservations that no caller knows it holds.

Redis may still run a request from a dead connection, so each attempt is looked up several times.
"""

import asyncio
from collections.abc import Collection
from typing import Protocol

from admission.arguments import grant_of
from schemas.admission import Ask, SettleKind, Settlement
from schemas.errors import RedisUnavailable
from schemas.ids import AttemptId
from schemas.job import Target

PAUSES_SECONDS = (0.1, 0.4, 1.5, 8.0, 50.0)
"""A minute in all: as long as a kernel may send the buffer of a closed connection."""

MOST_LOST = 10_000
"""Beyond this number reservations expire, so that an outage does not fill the memory."""


class Reservations(Protocol):
    """Finds and settles reservations."""

    async def stamps_of(self, bucket: Target, attempts: Collection[AttemptId]) -> list[tuple[AttemptId, str]]:
        """Return live stamps of these attempts. Raises RedisUnavailable."""

    async def settle(self, settlement: Settlement) -> bool:
        """Replace a reservation by the actual usage."""


class Recall:
    """Releases reservations of lost replies in at most one task."""

    def __init__(self, gate: Reservations) -> None:
        self._gate = gate
        self._lost: dict[AttemptId, Ask] = {}
        self._task: asyncio.Task[None] | None = None

    def lost(self, ask: Ask) -> None:
        """Look for this ask's reservation."""
        if len(self._lost) < MOST_LOST:
            self._lost[ask.attempt_id] = ask
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())

    async def aclose(self) -> None:
        """Stop looking; reservations not found expire."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _look(self) -> None:
        while self._lost:
            batch, self._lost = self._lost, {}
            for seconds in PAUSES_SECONDS:
                await asyncio.sleep(seconds)
                await self._give_back(batch)

    async def _give_back(self, asks: dict[AttemptId, Ask]) -> None:
        try:
            for bucket in {ask.bucket for ask in asks.values()}:
                for attempt_id, stamp in await self._gate.stamps_of(bucket, asks):
                    released = grant_of(asks[attempt_id], wait_us=0, stamp=stamp)
                    await self._gate.settle(Settlement(grant=released, kind=SettleKind.RELEASE))
                    del asks[attempt_id]
        except RedisUnavailable:
            return  # tried again after the next pause
