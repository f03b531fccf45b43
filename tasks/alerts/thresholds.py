"""Records when 50, 80 and 100 % of a budget are spent, once per window and limit.

Redis reports a crossing as it settles it. Comparing balances with limits finds those missed after a wipe or a lowered
limit.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias

import structlog

from admission.ledger import BudgetEvent, Ledger
from schemas.admission import RULE_SCOPE, BudgetCounter
from schemas.money import NanoUsd, usd_text
from storage.ledger.budget_alerts import ThresholdReached, ThresholdTable
from tasks.budgets.counters import Budget, budget_of, window_ends_at, window_name
from tasks.configuration.effective import Configuration
from tasks.maintenance.items import Isolation

log = structlog.get_logger()

PERCENTS = (50, 80, 100)
EVENTS_PER_ROUND = 500
BURN_SECONDS = 900.0
"""Period of the burn rate: long enough to be even, short enough to be current."""

Crossing: TypeAlias = tuple[BudgetCounter, int, NanoUsd]
"""A counter, the percentage that it passed, and what is settled."""


@dataclass(kw_only=True)
class Thresholds:
    """Records budget thresholds."""

    redis: Ledger
    rows: ThresholdTable
    configuration: Configuration
    now: Callable[[], datetime]
    clock: Callable[[], float] = time.monotonic
    _isolation: Isolation = field(init=False)
    _pinned: set[BudgetCounter] = field(default_factory=set)
    _recorded: set[tuple[BudgetCounter, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._isolation = Isolation("take_thresholds", end=_give_up, clock=self.clock)

    async def take(self) -> int:
        """Store the events of Redis; returns how many."""
        reported = await self.redis.events(EVENTS_PER_ROUND)
        events = [event for event in reported if not event.scope.startswith(RULE_SCOPE)]  # no alerts for spend rules
        if events:
            counters = [_counter(event) for event in events]
            settled = [balance.settled_nano_usd for balance in await self.redis.balances(counters)]
            percents = [event.percent for event in events]
            await self._record(list(zip(counters, percents, settled, strict=True)))
        await self.redis.forget_events([event for event in reported if not self._waits(event)])
        return len(events)

    def _waits(self, event: BudgetEvent) -> bool:
        return self._isolation.is_waiting(_name(_counter(event), event.percent))

    async def look(self) -> int:
        """Send changed limits to Redis, and record missed thresholds; returns how many."""
        known = await self._known()
        await self.redis.pin_limits(counter for counter in known if counter not in self._pinned)
        self._pinned = set(known)
        spent = [balance.settled_nano_usd for balance in await self.redis.balances(known)]
        passed = [
            (counter, percent, settled)
            for counter, settled in zip(known, spent, strict=True)
            for percent in PERCENTS
            if settled * 100 >= counter.limit_nano_usd * percent and (counter, percent) not in self._recorded
        ]
        new = await self._record(passed)
        self._recorded = {key for key in self._recorded if key[0] in known}
        self._recorded |= {(counter, percent) for counter, percent, _ in passed}
        return new

    async def _known(self) -> list[BudgetCounter]:
        budgets, now = (await self.configuration.refresh()).budgets, self.now()
        windows = {window_name(budget.window, budget.timezone, now) for budget in budgets}
        counted = [(counter, budget_of(counter, budgets, now)) for counter in await self.redis.counters(windows)]
        return [
            BudgetCounter(scope=counter.scope, window=counter.window, limit_nano_usd=budget.limit_nano_usd)
            for counter, budget in counted
            if budget is not None
        ]

    async def _record(self, crossings: Sequence[Crossing]) -> int:
        burn = await self.rows.burn(BURN_SECONDS) if crossings else {}
        record = partial(self._record_threshold, burn)
        return await self._isolation.each(crossings, lambda crossing: _name(*crossing[:2]), record)

    async def _record_threshold(self, burn: Mapping[tuple[str, str], NanoUsd], crossing: Crossing) -> int:
        new = await self.rows.record([self._reached(burn, *crossing)])
        for threshold in new:
            log.warning(
                "budget_threshold_passed",
                scope=threshold.passed.scope,
                window=threshold.passed.window,
                percent=threshold.passed.percent,
                limit_usd=usd_text(threshold.passed.limit_nano_usd),
                settled_usd=usd_text(threshold.passed.settled_nano_usd),
                full_at=threshold.passed.full_at and threshold.passed.full_at.isoformat(),
            )
        return len(new)

    def _reached(
        self, burn: Mapping[tuple[str, str], NanoUsd], counter: BudgetCounter, percent: int, settled: NanoUsd
    ) -> ThresholdReached:
        effective, now = self.configuration.effective, self.now()
        budget = budget_of(counter, effective.budgets if effective else (), now)
        lately = burn.get((counter.scope, counter.window), NanoUsd(0))
        return ThresholdReached(
            scope=counter.scope,
            window=counter.window,
            limit_nano_usd=counter.limit_nano_usd,
            percent=percent,
            settled_nano_usd=settled,
            full_at=forecast(NanoUsd(counter.limit_nano_usd - settled), lately, BURN_SECONDS, budget, now),
        )


def forecast(left: NanoUsd, burnt: NanoUsd, seconds: float, budget: Budget | None, now: datetime) -> datetime | None:
    """Return when the rest is spent; None without burn, or after the window's end."""
    if left <= 0:
        return now
    if burnt <= 0:
        return None
    full_at = now + timedelta(seconds=min(left * seconds / burnt, timedelta(days=3_650).total_seconds()))
    if budget is not None and full_at >= window_ends_at(budget.window, budget.timezone, now):
        return None
    return full_at


async def _give_up(_name: str, _error: Exception) -> None:
    """Do nothing: Isolation has logged the dropped event."""


def _name(counter: BudgetCounter, percent: int) -> str:
    return f"{counter.scope} {counter.window} {percent}"


def _counter(event: BudgetEvent) -> BudgetCounter:
    return BudgetCounter(scope=event.scope, window=event.window, limit_nano_usd=event.limit_nano_usd)
