"""Copies the limits to Redis, and wakes jobs early after a raise.

The gate refuses older versions, so two leaders do no harm. Jobs wake after the gate has the change.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from admission.limits import TargetLimits
from schemas.admission import TENANT_REASONS, RefusalReason, WaitReason
from schemas.job import Target
from schemas.jsons import JsonObject
from storage.queue.early_wake import Change, Waiters
from tasks.budgets.policy import RULE_WAITS
from tasks.configuration.effective import BUDGET_OF, LIMITS_OF, RULES, ConfigRows, Configuration, limits_by_target
from tasks.maintenance.items import Isolation
from tasks.tenancy.shares import TENANT_OF

REASONS: Mapping[str, WaitReason] = {
    "requests_per_minute": WaitReason.REQUESTS,
    "tokens_per_minute": WaitReason.TOKENS,
    "requests_per_day": WaitReason.REQUESTS_PER_DAY,
    "tokens_per_day": WaitReason.TOKENS_PER_DAY,
    "max_in_flight": WaitReason.IN_FLIGHT,
}
"""Wait reason for each configured limit."""


class LimitKeeper:
    """Writes changed limits to the gate. A rebuild of the ledger restores them after a wipe.

    `configure` returns False when a newer version is in force, and raises RedisUnavailable.
    """

    def __init__(self, configure: Callable[[TargetLimits, int], Awaitable[bool]], configuration: Configuration) -> None:
        self._configure = configure
        self._configuration = configuration
        self._written: dict[Target, int] = {}
        self._isolation = Isolation("configure")

    async def apply(self) -> int:
        """Write changed limits, and the ends of days; returns how many targets changed.

        Raises RedisUnavailable and PostgresUnavailable.
        """
        limits = (await self._configuration.refresh()).limits
        return await self._isolation.each(limits, lambda versioned: str(versioned[0].target), self._write)

    async def _write(self, versioned: tuple[TargetLimits, int]) -> int:
        limits, version = versioned
        is_changed = self._written.get(limits.target) != version
        if is_changed or limits.day_resets is not None:
            await self._configure(limits, version)
            self._written[limits.target] = version
        return int(is_changed)


class ParkedRows(Protocol):
    """Stores the configuration last acted on, and wakes parked jobs."""

    async def changes(self) -> Sequence[Change]:
        """List changes since the last `note`."""

    async def note(self, changes: Sequence[Change], waiters: Collection[Waiters]) -> None:
        """Store changes as known and wake jobs, in one transaction."""


class EarlyWakes:
    """Requests early wakes for each raise once, also after a restart.

    `models_of` names models and aliases that lead to a target. A family shares its lowest limit.
    """

    def __init__(self, parked: ParkedRows, rows: ConfigRows, models_of: Callable[[Target], Iterable[str]]) -> None:
        self._parked = parked
        self._rows = rows
        self._models_of = models_of

    async def notice(self) -> int:
        """Request wakes for raises; returns the number of freed wait reasons. Raises PostgresUnavailable."""
        changes = await self._parked.changes()
        if not changes:
            return 0
        waiters = {waiter for change in changes for waiter in _freed(change)} | await self._under_raised_limits(changes)
        await self._parked.note(changes, sorted(waiters, key=str))
        return len(waiters)

    async def _under_raised_limits(self, changes: Sequence[Change]) -> set[Waiters]:
        """Limits of a family change without the model's own row."""
        changed = [change for change in changes if change.name.startswith(LIMITS_OF)]
        if not changed:
            return set()
        unchanged = {row.name: row.value for row in await self._rows.all() if row.name.startswith(LIMITS_OF)}
        before = _limits(unchanged | {change.name: change.before for change in changed})
        after = _limits(unchanged | {change.name: change.after for change in changed})
        return {
            Waiters(reason=REASONS[limit].value, model=model)
            for target, had in before.items()
            for limit in _raised(had, after.get(target, {}))
            for model in self._models_of(target)
        }


def _freed(change: Change) -> list[Waiters]:
    """A tenant's new table may exceed that of every tenant."""
    if change.name.startswith(TENANT_OF):
        return [Waiters(reason=reason.value) for reason in TENANT_REASONS]
    if change.before is None:
        return []
    if change.name.startswith(BUDGET_OF) and _budget_gives_more(change.before, change.after):
        return [Waiters(reason=reason.value) for reason in (RefusalReason.BUDGET, RefusalReason.PACE)]
    return [Waiters(reason=RULE_WAITS)] if change.name == RULES else []


def names_leading_to(names: Iterable[str], chain: Callable[[str], Sequence[Target]]) -> Callable[[Target], list[str]]:
    """Return a function from a target to the names that may lead to it."""
    chains = {name: chain(name) for name in names}
    return lambda target: [name for name, targets in chains.items() if target in targets]


def _limits(values: Mapping[str, JsonObject | None]) -> dict[Target, JsonObject]:
    return limits_by_target({name: value for name, value in values.items() if value is not None})


def _raised(before: JsonObject, after: JsonObject) -> list[str]:
    had = {limit: before[limit] for limit in REASONS if before.get(limit) is not None}
    return [limit for limit, most in had.items() if after.get(limit) is None or after[limit] > most]


def _budget_gives_more(before: Any, after: Any) -> bool:  # noqa: ANN401 - JSON values
    if after is None:
        return True
    raised = Decimal(str(after["limit_usd"])) > Decimal(str(before["limit_usd"]))
    return raised or any(after.get(name) != before.get(name) for name in ("on_exhausted", "pacing", "pacing_ahead"))
