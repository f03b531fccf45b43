"""Asks whose answer was lost: whether they were granted is found out, and nobody's reservation is given back.

A lost reply may have been a grant, and a question that sat in a dead connection may still be heard later. So each is
looked for a few times while Redis answers; what is never found was never granted, or runs out as any reservation does.
"""

import asyncio
from collections.abc import Collection
from typing import Protocol

from schemas.admission import Ask, Grant, SettleKind, Settlement
from schemas.errors import RedisUnavailable
from schemas.ids import AttemptId
from schemas.job import Target

PAUSES_SECONDS = (0.1, 0.4, 1.5, 8.0, 50.0)
"""A minute in all: as long as a kernel may go on sending what a closed connection had in its buffer."""

MOST_LOST = 10_000
"""Beyond, reservations are left to run out: an outage must not fill the memory."""


class Reservations(Protocol):
    """Where reservations are found and given back."""

    async def stamps_of(self, bucket: Target, attempts: Collection[AttemptId]) -> list[tuple[AttemptId, str]]:
        """Live stamps of these attempts. Raises RedisUnavailable."""

    async def settle(self, settlement: Settlement) -> bool:
        """Replace a reservation by the truth."""


class Recall:
    """One task at most, however many answers are lost at once."""

    def __init__(self, gate: Reservations) -> None:
        self._gate = gate
        self._lost: dict[AttemptId, Ask] = {}
        self._task: asyncio.Task[None] | None = None

    def lost(self, ask: Ask) -> None:
        """Nobody will hear the answer to this."""
        if len(self._lost) < MOST_LOST:
            self._lost[ask.attempt_id] = ask
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())

    async def aclose(self) -> None:
        """Leave what was not found to its expiry."""
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
                    released = _grant(asks[attempt_id], stamp)
                    await self._gate.settle(Settlement(grant=released, kind=SettleKind.RELEASE))
                    del asks[attempt_id]
        except RedisUnavailable:
            return  # looked for again after the next pause


def _grant(ask: Ask, stamp: str) -> Grant:
    return Grant(
        stamp=stamp,
        wait_ms=0,
        tokens=ask.tokens,
        cost_nano_usd=ask.cost_nano_usd,
        target=ask.target,
        epoch=ask.epoch,
        counters=ask.counters,
    )
