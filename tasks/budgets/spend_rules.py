"""Limits what jobs of some lanes and models may spend per hour between two times of day. Pure.

A rule in force adds a budget counter to each job that it names: one for the hour, or, where nothing may be spent, a
zero limit until the rule ends. So the one admission call decides, reserves and settles it with the budgets.
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
    """A rule from `starts` to `ends` in `timezone`, on the weekdays (0 is Monday) on which it starts.

    Empty lanes or models mean all. A time that the clock skips is taken as if it had not been skipped; of one that
    occurs twice, the first counts.
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
        """Whether the rule applies to this lane and model."""
        return (not self.lanes or lane in self.lanes) and (not self.models or model in self.models)

    def in_force_until(self, now: datetime) -> datetime | None:
        """Return when the rule's current period ends (UTC); None outside of one. A period may have begun yesterday."""
        today = now.astimezone(self.timezone).date()
        for first in (today, today - timedelta(days=1)):
            last = first if self.starts < self.ends else first + timedelta(days=1)
            begins = datetime.combine(first, self.starts, self.timezone).astimezone(UTC)
            ends = datetime.combine(last, self.ends, self.timezone).astimezone(UTC)
            if first.weekday() in self.weekdays and begins <= now < ends:
                return ends
        return None

    def counter(self, now: datetime, steps: tuple[Step, ...] = ()) -> BudgetCounter | None:
        """Return the counter of what may be spent now; None while the rule is not in force."""
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
    """Read a rule from a table of the file or a stored value."""
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
    """Return the counters of all rules in force that apply to this lane and model."""
    found = (rule.counter(now, steps) for rule in rules if rule.names(lane, model))
    return tuple(counter for counter in found if counter is not None)
