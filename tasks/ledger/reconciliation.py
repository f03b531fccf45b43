"""Keeps the money in Redis equal to Postgres: rebuilds, audits, settles what was lost.

A missing or different epoch in Redis closes admission; the rebuild opens it last.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import assert_never

import structlog

from admission.ledger import Ledger, OpenReservation
from admission.limits import Balance
from admission.stamps import read_stamp
from schemas.admission import BudgetCounter, Grant, SettleKind, Settlement
from schemas.attempt import AttemptState, SettledEnd, Unsettled
from schemas.ids import AttemptId
from schemas.job import Target
from schemas.money import ZERO, NanoUsd
from storage.database.mapping import values_of
from storage.ledger.ledger import LedgerTable
from storage.queue.transitions import DueTable
from tasks.budgets.counters import Window, names_its_tenant, window_name
from tasks.configuration.effective import Configuration
from tasks.ledger.audit import Difference, differences, forgotten
from tasks.maintenance.items import Isolation

log = structlog.get_logger()

LONGEST_WINDOW = timedelta(days=32)
"""Older sums do not affect admission: the longest window is a month, in any timezone."""

PRESUME_AFTER_SECONDS = 24 * 3600.0
"""Age at which an unresolved charge is posted at its reservation: no source reports later, and the invoice corrects
it."""

RECONCILED_PER_ROUND = 500
"""Unresolved reservations that a round checks; the next continues behind them."""

CLOCKS_DIFFER = timedelta(seconds=5)
"""Difference of clocks between workers and Postgres; younger entries are not audited."""

NO_TARGET = Target(account="", model="")
"""Unresolved charges hold no permits of any target."""


@dataclass(kw_only=True, slots=True)
class LedgerReconciler:
    """Runs the money duties of upkeep."""

    table: LedgerTable
    due: DueTable
    redis: Ledger
    configuration: Configuration
    now: Callable[[], datetime]
    clock: Callable[[], float] = time.monotonic
    _reconciled_to: int = field(default=0, init=False)
    _carried: bool = field(default=False, init=False)
    _isolation: Isolation = field(init=False)
    _reading: Isolation = field(init=False)

    def __post_init__(self) -> None:
        """Isolate reading from settling: a stamp may fail at either."""
        self._isolation, self._reading = Isolation("books", clock=self.clock), Isolation("stamps", clock=self.clock)

    async def keep_open(self) -> int:
        """Rebuild balances that Redis lost or has from another epoch; returns 1 when it did.

        Also once after an upgrade from counters without the tenant.
        """
        self._carried = self._carried or await self.table.counters_carried()
        if self._carried and await self.redis.epoch() == await self.table.epoch():
            return 0
        return await self._rebuild()

    async def rescue(self, asked_at: datetime) -> int:
        """Rescue the jobs of dead workers; their open attempts become unresolved charges."""
        rescued = await self.due.rescue(asked_at)
        await self._isolation.each(rescued.suspended, lambda attempt: attempt.attempt_id, self._suspend)
        if rescued.jobs:
            log.warning(
                "jobs_rescued",
                jobs=len(rescued.jobs),
                attempts_in_suspense=len(rescued.suspended),
                holders=rescued.holders,
                overdue_seconds=round(rescued.least_overdue_seconds, 3),
            )
        return len(rescued.jobs)

    async def reconcile(self) -> int:
        """Settle one part of the reservations whose settlement was lost.

        Releases reservations without an attempt: older than their job's lease, they can no longer be opened.
        """
        stamps, following = await self.redis.suspended(self._reconciled_to, about=RECONCILED_PER_ROUND)
        known = dict[str, AttemptId]()

        async def read(stamp: str) -> int:
            known[stamp] = read_stamp(stamp).attempt_id
            return 1

        async def reconcile(stamp: str) -> int:
            end = ends.get(known[stamp])
            settlement = _never_opened(stamp) if end is None else _settled(end)
            return int(settlement is not None and await self.redis.resolve(settlement))

        await self._reading.each(stamps, str, read)
        ends = await self.table.ends(list(known.values()))
        reconciled = await self._isolation.each(known, str, reconcile)
        self._reconciled_to = following
        return reconciled

    async def audit(self) -> int:
        """Compare Redis with Postgres, log and repair differences; returns how many counters.

        Where Redis lacks an open attempt's reservation, it rebuilds all balances and returns 1. Counters without a
        tenant belong to an earlier version that runs beside this one; its spend is added to this version's counters.
        """
        effective, now = await self.configuration.refresh(), self.now()
        windows = {window_name(budget.window, budget.timezone, now) for budget in effective.budgets}
        windows |= {window_name(Window.HOUR, rule.timezone, now) for rule in effective.rules}
        before = await self.table.now() - CLOCKS_DIFFER
        counters = await self.redis.counters(windows)
        held = await self.redis.holdings([counter for counter in counters if names_its_tenant(counter.scope)])
        recorded = await self.table.audited(
            [stamp.attempt_id for stamp in held.stamps], windows=windows, since=now - LONGEST_WINDOW, before=before
        )
        if held.epoch is None or held.epoch != await self.table.epoch():
            return 0
        if lost := forgotten(held, recorded):
            log.error("reservations_forgotten", attempts=len(lost), example=min(lost))
            return await self._rebuild()
        repair = partial(self._repair, held.epoch)
        return await self._isolation.each(
            differences(held, recorded), lambda difference: f"{difference.scope} {difference.window}", repair
        )

    async def _repair(self, epoch: int, difference: Difference) -> bool:
        counter = BudgetCounter(scope=difference.scope, window=difference.window, limit_nano_usd=ZERO)
        settled, reserved = difference.settled_nano_usd, difference.reserved_nano_usd
        repaired = await self.redis.repair(epoch, counter, settled=settled, reserved=reserved)
        if repaired:
            log.warning(
                "ledger_repaired",
                scope=counter.scope,
                window=counter.window,
                settled_nano_usd=settled,
                reserved_nano_usd=reserved,
            )
        return repaired

    async def presume(self, after_seconds: float = PRESUME_AFTER_SECONDS) -> int:
        """Post old unresolved charges at their reservations; returns how many."""
        old = await self.table.suspense(older_seconds=after_seconds)
        return await self._isolation.each(old, lambda attempt: attempt.attempt_id, self._presume)

    async def _presume(self, unsettled: Unsettled) -> int:
        if await self.table.presume(unsettled):
            await self.redis.resolve(settlement_of(unsettled.grant, unsettled.grant.cost_nano_usd))
        return 1

    async def _suspend(self, unsettled: Unsettled) -> int:
        return int(await self.redis.resolve(Settlement(grant=unsettled.grant, kind=SettleKind.SUSPEND)))

    async def _rebuild(self) -> int:
        effective = await self.configuration.refresh()
        recorded = await self.table.rebuild(self.now() - LONGEST_WINDOW)
        balances = [Balance(**values_of(balance), limit_nano_usd=None) for balance in recorded.balances]
        carried = [
            OpenReservation(grant=attempt.grant, suspended=attempt.state is AttemptState.SUSPENSE)
            for attempt in recorded.unsettled
        ]
        opened = await self.redis.rebuild(recorded.epoch, balances, carried, effective.limits)
        republished = await self.due.forget_all_messages()  # a Redis that lost balances lost messages too
        log.info("ledger_rebuilt", epoch=recorded.epoch, carried=len(carried), opened=opened, republished=republished)
        return 1


def _never_opened(stamp: str) -> Settlement:
    known = read_stamp(stamp)
    counters = tuple(BudgetCounter(scope=scope, window=window, limit_nano_usd=ZERO) for scope, window in known.counters)
    grant = Grant(
        stamp=stamp,
        wait_ms=0,
        tokens=known.tokens,
        cost_nano_usd=known.cost_nano_usd,
        target=NO_TARGET,
        epoch=0,
        counters=counters,
    )
    return settlement_of(grant, None)


def _settled(end: SettledEnd) -> Settlement | None:
    match end.state:
        case AttemptState.POSTED:
            return settlement_of(end.grant, end.cost_nano_usd, end.tokens)
        case AttemptState.RELEASED:
            return settlement_of(end.grant, None)
        case AttemptState.OPENED | AttemptState.SUSPENSE:
            return None
        case _:
            assert_never(end.state)


def settlement_of(grant: Grant, billed: NanoUsd | None, tokens: int | None = None) -> Settlement:
    """Post what was billed, with the reserved tokens where they were not counted; None releases the reservation."""
    if billed is None:
        return Settlement(grant=grant, kind=SettleKind.RELEASE, refund_permits=False)
    counted = grant.tokens if tokens is None else tokens
    return Settlement(grant=grant, kind=SettleKind.POST, actual_tokens=counted, actual_nano_usd=billed)
