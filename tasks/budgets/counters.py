"""Chooses the budget counters of a job, and names their windows. Pure.

A window is named by its local start; the offset distinguishes an hour that occurs twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import assert_never
from zoneinfo import ZoneInfo

from config.amounts import MAX_BUDGETS_OF_A_JOB
from config.budgets import KINDS_WITHIN_TENANTS
from schemas.admission import BudgetCounter, Pace, Step
from schemas.errors import InvalidSetting
from schemas.job import NewJob
from schemas.money import NanoUsd


class Window(StrEnum):
    """Names the period after which a budget begins anew."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


_NAMES = {Window.HOUR: "%Y-%m-%dT%H%z", Window.DAY: "%Y-%m-%d", Window.MONTH: "%Y-%m"}

GLOBAL_SCOPE = "global"
_SHIFT = timedelta(minutes=15)
"""Clocks change at whole quarters of an hour."""

PARKED: tuple[Step, ...] = (Step.PARK,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Limits one scope (`tenant:acme`) or each scope of a kind (`tenant`), per window.

    `user` limits each user of each tenant, `user:carol` each tenant's user of that name, `user:acme/carol` the one of
    acme.
    """

    scope: str
    window: Window
    limit_nano_usd: NanoUsd
    timezone: ZoneInfo
    on_exhausted: tuple[Step, ...] | None = None
    """None uses the lane's steps."""

    ahead: float | None = None
    """Part of the limit that may be spent ahead of an even pace; None: no pacing."""

    version: int = field(default=1, compare=False)


def window_name(window: Window, zone: ZoneInfo, now: datetime) -> str:
    """Name the window of `now` (aware), with its timezone."""
    return f"{now.astimezone(zone).strftime(_NAMES[window])}@{zone.key}"


def window_ends_at(window: Window, zone: ZoneInfo, now: datetime) -> datetime:
    """Return the start (UTC) of the next window by local time."""
    local = now.astimezone(zone)
    match window:
        case Window.HOUR:
            return _hour_ends_at(zone, now)
        case Window.DAY:
            return datetime.combine(local.date() + timedelta(days=1), time.min, zone).astimezone(UTC)
        case Window.MONTH:
            first = local.date().replace(day=1)
            following = (first + timedelta(days=32)).replace(day=1)
            return datetime.combine(following, time.min, zone).astimezone(UTC)
        case _:
            assert_never(window)


def window_starts_at(window: Window, zone: ZoneInfo, now: datetime) -> datetime:
    """Return the start (UTC) of the current window by local time."""
    today = now.astimezone(zone).date()
    match window:
        case Window.HOUR:
            return _hour_starts_at(zone, now)
        case Window.DAY:
            return datetime.combine(today, time.min, zone).astimezone(UTC)
        case Window.MONTH:
            return datetime.combine(today.replace(day=1), time.min, zone).astimezone(UTC)
        case _:
            assert_never(window)


def pace_of(budget: Budget, now: datetime) -> Pace | None:
    """Return the current window's pace; None without pacing."""
    if budget.ahead is None:
        return None
    return Pace(
        starts_at=window_starts_at(budget.window, budget.timezone, now),
        ends_at=window_ends_at(budget.window, budget.timezone, now),
        ahead=budget.ahead,
    )


def paced_limit(limit: NanoUsd, pace: Pace, now: datetime) -> NanoUsd:
    """Return what may be spent by now."""
    passed = (now - pace.starts_at) / (pace.ends_at - pace.starts_at)
    return NanoUsd(int(limit * min(1.0, passed + pace.ahead)))


def _quarter_of(now: datetime) -> datetime:
    utc = now.astimezone(UTC)
    return utc.replace(minute=utc.minute - utc.minute % 15, second=0, microsecond=0)


def _hour_starts_at(zone: ZoneInfo, now: datetime) -> datetime:
    moment, name = _quarter_of(now), window_name(Window.HOUR, zone, now)
    while window_name(Window.HOUR, zone, moment - _SHIFT) == name:
        moment -= _SHIFT
    return moment


def _hour_ends_at(zone: ZoneInfo, now: datetime) -> datetime:
    """A change of the clock may shorten the hour."""
    moment = _quarter_of(now) + _SHIFT
    while window_name(Window.HOUR, zone, moment) == window_name(Window.HOUR, zone, now):
        moment += _SHIFT
    return moment


def counters_for(
    job: NewJob, budgets: Sequence[Budget], now: datetime, steps: tuple[Step, ...] = PARKED
) -> tuple[BudgetCounter, ...]:
    """Return counters that must cover this job, with the lane's steps. Raises InvalidSetting beyond eight."""
    counters = tuple(
        BudgetCounter(
            scope=scope,
            window=window_name(budget.window, budget.timezone, now),
            limit_nano_usd=budget.limit_nano_usd,
            ends_at=window_ends_at(budget.window, budget.timezone, now),
            on_exhausted=steps if budget.on_exhausted is None else budget.on_exhausted,
            pace=pace_of(budget, now),
        )
        for budget in budgets
        if (scope := _scope_of(job, budget.scope)) is not None
    )
    if len(counters) > MAX_BUDGETS_OF_A_JOB:
        named = ", ".join(f"{counter.scope} per {counter.window}" for counter in counters)
        raise InvalidSetting(
            f"A job counts against {len(counters)} budgets; at most {MAX_BUDGETS_OF_A_JOB} are possible: {named}."
        )
    return counters


def _scope_of(job: NewJob, scope: str) -> str | None:
    kind, _, name = scope.partition(":")
    own = {"tenant": job.tenant_id, "user": job.user, "batch": job.batch_id, "prompt": job.prompt}.get(kind)
    if kind == GLOBAL_SCOPE:
        return GLOBAL_SCOPE
    if own is None:
        return None
    full_name = f"{job.tenant_id}/{own}" if kind in KINDS_WITHIN_TENANTS else own
    return f"{kind}:{full_name}" if name in {"", own, full_name} else None


def names_its_tenant(scope: str) -> bool:
    """Tell whether a scope has its tenant; versions before 0014 left it out."""
    kind, _, name = scope.partition(":")
    return kind not in KINDS_WITHIN_TENANTS or "/" in name


def budget_of(counter: BudgetCounter, budgets: Sequence[Budget], now: datetime) -> Budget | None:
    """Return the strictest budget over this counter in a current window."""
    if not names_its_tenant(counter.scope):
        return None
    kind, _, name = counter.scope.partition(":")
    covering = {counter.scope, kind}
    if kind in KINDS_WITHIN_TENANTS:
        covering.add(f"{kind}:{name.partition('/')[2]}")
    fitting = [
        budget
        for budget in budgets
        if budget.scope in covering and window_name(budget.window, budget.timezone, now) == counter.window
    ]
    return min(fitting, key=lambda budget: budget.limit_nano_usd, default=None)
