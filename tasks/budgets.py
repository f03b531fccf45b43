"""Which budget counters a job counts against, and the names of their windows. Pure.

A window is named by its start in the scope's own timezone, so days of 23 and 25 hours need no arithmetic:
`2026-11-24` is the day as people there live it, and an hour that comes twice is told apart by its offset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import assert_never
from zoneinfo import ZoneInfo

from schemas.admission import MAX_BUDGET_COUNTERS, BudgetCounter
from schemas.errors import InvalidSetting
from schemas.job import Job
from schemas.money import NanoUsd


class Window(StrEnum):
    """How often a budget begins anew."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


_NAMES = {Window.HOUR: "%Y-%m-%dT%H%z", Window.DAY: "%Y-%m-%d", Window.MONTH: "%Y-%m"}

GLOBAL_SCOPE = "global"
SCOPE_KINDS = ("global", "tenant", "user", "batch")


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """A limit for one scope (`tenant:acme`) or for each scope of a kind (`tenant`), per window."""

    scope: str
    window: Window
    limit_nano_usd: NanoUsd
    timezone: ZoneInfo


def window_name(window: Window, zone: ZoneInfo, now: datetime) -> str:
    """The window that `now` (aware) falls into, with the zone it is counted in."""
    return f"{now.astimezone(zone).strftime(_NAMES[window])}@{zone.key}"


def window_ends_at(window: Window, zone: ZoneInfo, now: datetime) -> datetime:
    """The first moment of the next window, as people in that zone live it."""
    local = now.astimezone(zone)
    match window:
        case Window.HOUR:
            return (now + timedelta(hours=1)).astimezone(zone).replace(minute=0, second=0, microsecond=0)
        case Window.DAY:
            return datetime.combine(local.date() + timedelta(days=1), time.min, zone)
        case Window.MONTH:
            first = local.date().replace(day=1)
            return datetime.combine((first + timedelta(days=32)).replace(day=1), time.min, zone)
        case _:
            assert_never(window)


def counters_for(job: Job, budgets: Sequence[Budget], now: datetime) -> tuple[BudgetCounter, ...]:
    """Every counter that must have room for this job. Raises InvalidSetting beyond eight."""
    counters = tuple(
        BudgetCounter(
            scope=scope,
            window=window_name(budget.window, budget.timezone, now),
            limit_nano_usd=budget.limit_nano_usd,
        )
        for budget in budgets
        if (scope := _scope_of(job, budget.scope)) is not None
    )
    if len(counters) > MAX_BUDGET_COUNTERS:
        raise InvalidSetting(
            f"A job counts against {len(counters)} budgets; at most {MAX_BUDGET_COUNTERS} are possible."
        )
    return counters


def _scope_of(job: Job, wanted: str) -> str | None:
    kind, _, name = wanted.partition(":")
    own = {"tenant": job.tenant_id, "user": job.user, "batch": job.batch_id}.get(kind)
    if kind == GLOBAL_SCOPE:
        return GLOBAL_SCOPE
    if own is None or (name and name != own):
        return None
    return f"{kind}:{own}"
