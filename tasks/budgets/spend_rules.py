"""Limits spend per hour between two times of day, by lane and model. Pure.

A rule in force adds a counter for the hour, or a zero limit until it ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from config.budgets import RuleTable
from schemas.admission import RULE_SCOPE, BudgetCounter, Step
from schemas.lanes import Lane
from schemas.money import NanoUsd, nano_from_usd
from tasks.budgets.counters import Window, window_ends_at, window_name

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """Holds a rule. `weekdays` (0 is Monday) are those on which it starts.

    No lanes or models mean all. A time that the clock skips counts as if it existed; of a repeated time, the first
    counts.
    """

    name: str
    lanes: frozenset[Lane]
    models: frozenset[str]
    starts: time
    ends: time
    timezone: ZoneInfo
    weekdays: frozenset[int]
    nano_usd_per_hour: NanoUsd

    def names(self, lane: Lane, model: str) -> bool:
        """Tell whether the rule applies."""
        return (not self.lanes or lane in self.lanes) and (not self.models or model in self.models)

    def in_force_until(self, now: datetime) -> datetime | None:
        """Return the end (UTC) of the period in force, which may have begun yesterday."""
        today = now.astimezone(self.timezone).date()
        for first in (today, today - timedelta(days=1)):
            last = first if self.starts < self.ends else first + timedelta(days=1)
            begins = datetime.combine(first, self.starts, self.timezone).astimezone(UTC)
            ends = datetime.combine(last, self.ends, self.timezone).astimezone(UTC)
            if first.weekday() in self.weekdays and begins <= now < ends:
                return ends
        return None

    def counter(self, now: datetime, steps: tuple[Step, ...] = ()) -> BudgetCounter | None:
        """Return the counter of what may be spent now; None while not in force."""
        until = self.in_force_until(now)
        if until is None:
            return None
        hour_ends_at = window_ends_at(Window.HOUR, self.timezone, now)
        return BudgetCounter(
            scope=f"{RULE_SCOPE}{self.name}",
            window=window_name(Window.HOUR, self.timezone, now),
            limit_nano_usd=self.nano_usd_per_hour,
            ends_at=min(until, hour_ends_at) if self.nano_usd_per_hour else until,
            on_exhausted=steps,
        )


def rule_from(table: RuleTable) -> Rule:
    """Read a rule from the file or a stored value."""
    return Rule(
        name=table.name,
        lanes=frozenset(map(Lane, table.lanes)),
        models=frozenset(table.models),
        starts=time.fromisoformat(table.starts),
        ends=time.fromisoformat(table.ends),
        timezone=ZoneInfo(table.timezone),
        weekdays=frozenset(map(DAYS.index, table.days)),
        nano_usd_per_hour=nano_from_usd(table.usd_per_hour),
    )


def ruling(
    rules: Sequence[Rule], lane: Lane, model: str, now: datetime, steps: tuple[Step, ...]
) -> tuple[BudgetCounter, ...]:
    """Return counters of the rules in force."""
    counters = (rule.counter(now, steps) for rule in rules if rule.names(lane, model))
    return tuple(counter for counter in counters if counter is not None)
