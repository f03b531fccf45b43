"""Keeping Redis and Postgres of one mind about money: rebuild after a loss, resolve what lies in suspense.

Postgres is the truth. A missing or foreign epoch in Redis closes admission; the rebuild raises the epoch, copies the
sums and the open reservations over, and opens admission last.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from admission.ledger import OpenReservation
from admission.limits import Balance, TargetLimits
from schemas.admission import SettleKind, Settlement
from schemas.attempt import AttemptState
from storage.ledger import LedgerTable, Unsettled

log = structlog.get_logger()

LONGEST_WINDOW = timedelta(days=32)
"""Sums older than the longest budget window (a month, in any timezone) cannot matter to admission."""

PRESUME_AFTER_SECONDS = 24 * 3600.0
"""After a day nobody will say any more what an attempt cost: it is posted at its reservation, to be adjusted by the
invoice."""


class RedisLedger(Protocol):
    """The ledger's balances in Redis."""

    async def epoch(self) -> int | None:
        """The epoch in force; None while the ledger is closed."""

    async def rebuild(
        self,
        epoch: int,
        balances: Sequence[Balance],
        open_reservations: Sequence[OpenReservation],
        limits: Sequence[tuple[TargetLimits, int]],
    ) -> bool:
        """Write everything anew and open."""

    async def resolve(self, settlement: Settlement) -> bool:
        """Settle what lies in suspense."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bookkeeper:
    """The money duties of upkeep. `limits` are the effective ones with their versions."""

    table: LedgerTable
    redis: RedisLedger
    limits: Callable[[], Sequence[tuple[TargetLimits, int]]]
    now: Callable[[], datetime]

    async def keep_open(self) -> int:
        """Rebuild the balances when Redis has lost them or runs under another epoch; returns 1 when it did."""
        if await self.redis.epoch() == await self.table.epoch():
            return 0
        books = await self.table.rebuild(self.now() - LONGEST_WINDOW)
        balances = [
            Balance(
                scope=balance.scope,
                window=balance.window,
                limit_nano_usd=None,
                settled_nano_usd=balance.settled_nano_usd,
                reserved_nano_usd=balance.reserved_nano_usd,
            )
            for balance in books.balances
        ]
        carried = [
            OpenReservation(grant=one.grant, suspended=one.state is AttemptState.SUSPENSE) for one in books.unsettled
        ]
        opened = await self.redis.rebuild(books.epoch, balances, carried, self.limits())
        log.info("ledger_rebuilt", epoch=books.epoch, carried=len(carried), opened=opened)
        return 1

    async def presume(self, after_seconds: float = PRESUME_AFTER_SECONDS) -> int:
        """Post old suspense at its reservation; returns how many attempts."""
        old = await self.table.suspense(older_seconds=after_seconds)
        for unsettled in old:
            if await self.table.presume(unsettled):
                await self.redis.resolve(_at_reservation(unsettled))
        return len(old)


def _at_reservation(unsettled: Unsettled) -> Settlement:
    grant = unsettled.grant
    return Settlement(
        grant=grant, kind=SettleKind.POST, actual_tokens=grant.tokens, actual_nano_usd=grant.cost_nano_usd
    )
