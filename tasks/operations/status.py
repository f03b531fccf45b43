"""Reports limits, budgets, unresolved charges, queue depths and store health to operators."""

from asyncio import gather
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from admission.connect import Admission
from admission.health import complaints
from admission.limits import Balance
from config.budgets import KINDS_WITHIN_TENANTS
from schemas.admission import BudgetCounter
from schemas.errors import PostgresUnavailable, Unavailable
from schemas.ids import TenantId
from schemas.job import Target
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.money import NanoUsd, usd_text
from schemas.states import JobState
from storage.connect import Storage
from storage.ledger.unresolved import SuspenseTotal
from tasks.alerts.thresholds import BURN_SECONDS, forecast
from tasks.budgets.counters import GLOBAL_SCOPE, Budget, pace_of, paced_limit, window_ends_at, window_name
from tasks.budgets.spend_rules import Rule
from tasks.configuration.effective import Configuration
from tasks.operations.limit_report import Waiting, limit_rows, waiting_by_target

BELIEVED_SECONDS = 10.0
"""Reuse of a burn rate, which sums a quarter of an hour and is asked for several times a second."""

LONG_AGO = datetime.min.replace(tzinfo=UTC)

CLOSED_LEDGER = "The ledger is being rebuilt; nothing is sent until it is open."


@dataclass(kw_only=True, slots=True)
class Watch:
    """Reads balances and buckets from Redis, the rest from Postgres."""

    admission: Admission
    configuration: Configuration
    storage: Storage
    chain: Callable[[str], Sequence[Target]]
    now: Callable[[], datetime]
    _burn: Mapping[tuple[str, str], NanoUsd] = field(default_factory=dict)
    _burn_stale_at: datetime = LONG_AGO

    async def check(self) -> Mapping[str, str | None]:
        """Return each store's complaint, or None, by name."""
        return {"postgres": await self._postgres(), "redis": await self._redis()}

    async def limits(self) -> Sequence[JsonObject]:
        """Build one row per target and limit of used buckets. Raises RedisUnavailable."""
        gate = self.admission.gate
        snapshots = await gather(*(gate.snapshot(target) for target in await gate.targets()))
        waiting = await self._waiting_now(
            {snapshot.target for snapshot in snapshots if snapshot is not None and snapshot.stopped}
        )
        now = self.now()
        return [
            row
            for snapshot in snapshots
            if snapshot is not None and (snapshot.in_flight or self._is_in_force(snapshot.target))
            for row in limit_rows(snapshot, None if waiting is None else waiting.get(snapshot.target, {}), now)
        ]

    async def _waiting_now(self, stopped: Collection[Target]) -> Mapping[Target, Waiting] | None:
        """Return None while Postgres is unavailable."""
        try:
            flows = await self.storage.waiting.by_flow()
        except PostgresUnavailable:
            return None
        return waiting_by_target(flows, self.chain, self.configuration.bucket_of, stopped)

    def _is_in_force(self, bucket: Target) -> bool:
        """A model that has joined a family leaves its own bucket."""
        effective = self.configuration.effective
        return effective is None or any(limits.target == bucket for limits, _ in effective.limits)

    async def budgets(self) -> Sequence[JsonObject]:
        """Build one row per scope and window, and per rule. Raises RedisUnavailable and PostgresUnavailable."""
        effective = await self.configuration.refresh()
        now, tenants = self.now(), sorted(await self.storage.keys.tenants())
        named = [
            (budget, _counter(budget, scope, now))
            for budget in effective.budgets
            for scope in _scopes(budget, [TenantId(tenant) for tenant in tenants])
        ]
        balances = await self.admission.gate.budgets([counter for _, counter in named])
        burn = await self._burnt(now) if named else {}
        rows = [_budget_row(budget, balance, burn, now) for (budget, _), balance in zip(named, balances, strict=True)]
        return [*rows, *await self._ruled(effective.rules, now)]

    async def _ruled(self, rules: Sequence[Rule], now: datetime) -> list[JsonObject]:
        ruling = [(rule, counter) for rule in rules if (counter := rule.counter(now)) is not None]
        balances = await self.admission.gate.budgets([counter for _, counter in ruling])
        return [_rule_row(*each, balance) for each, balance in zip(ruling, balances, strict=True)]

    async def _burnt(self, now: datetime) -> Mapping[tuple[str, str], NanoUsd]:
        if now >= self._burn_stale_at:
            self._burn_stale_at = now + timedelta(seconds=BELIEVED_SECONDS)
            self._burn = await self.storage.thresholds.burn(BURN_SECONDS)
        return self._burn

    async def suspense(self) -> Sequence[SuspenseTotal]:
        """Sum unresolved charges by account."""
        return await self.storage.suspense.totals()

    async def thresholds(self) -> Mapping[tuple[str, int], int]:
        """Count passes of budget thresholds by scope and percentage."""
        return await self.storage.thresholds.counts()

    async def depths(self) -> Mapping[tuple[Lane, JobState], int]:
        """Count non-terminal jobs."""
        return await self.storage.reads.depths()

    async def _postgres(self) -> str | None:
        try:
            await self.configuration.refresh()
        except Unavailable as error:
            return error.message
        return None

    async def _redis(self) -> str | None:
        try:
            problems = await complaints(self.admission.wire)
            epoch = await self.admission.gate.current_epoch()
        except Unavailable:
            return "Redis cannot be reached."
        return " ".join(problems) or (CLOSED_LEDGER if epoch is None else None)


def _scopes(budget: Budget, tenants: Sequence[TenantId]) -> list[str]:
    """Users, prompts and batches are not listed."""
    kind, named, name = budget.scope.partition(":")
    if kind in KINDS_WITHIN_TENANTS and named and name.partition("/")[0] not in tenants:
        return [f"{kind}:{tenant}/{name}" for tenant in tenants]
    if budget.scope == GLOBAL_SCOPE or named:
        return [budget.scope]
    return [f"tenant:{tenant}" for tenant in tenants] if budget.scope == "tenant" else []


def _counter(budget: Budget, scope: str, now: datetime) -> BudgetCounter:
    window = window_name(budget.window, budget.timezone, now)
    return BudgetCounter(scope=scope, window=window, limit_nano_usd=budget.limit_nano_usd)


def _budget_row(budget: Budget, balance: Balance, burn: Mapping[tuple[str, str], NanoUsd], now: datetime) -> JsonObject:
    """`full_at` is None after the window's end, `pace_usd` (what may be spent by now) without pacing."""
    limit = balance.limit_nano_usd or budget.limit_nano_usd
    left = limit - balance.settled_nano_usd - balance.reserved_nano_usd
    burnt = burn.get((balance.scope, balance.window), NanoUsd(0))
    pace = pace_of(budget, now)
    return _row(balance, limit, left) | {
        "pace_usd": None if pace is None else usd_text(paced_limit(limit, pace, now)),
        "full_at": forecast(NanoUsd(limit - balance.settled_nano_usd), burnt, BURN_SECONDS, budget, now),
        "resets_at": window_ends_at(budget.window, budget.timezone, now),
    }


def _rule_row(rule: Rule, counter: BudgetCounter, balance: Balance) -> JsonObject:
    """A rule that allows no spending shows its end instead of its hour."""
    left = counter.limit_nano_usd - balance.settled_nano_usd - balance.reserved_nano_usd
    closed = f"closed until {rule.ends:%H:%M} {rule.timezone.key}"
    return _row(balance, counter.limit_nano_usd, max(0, left)) | {
        "window": counter.window if rule.nano_usd_per_hour else closed,
        "pace_usd": None,
        "full_at": None,
        "resets_at": counter.ends_at,
    }


def _row(balance: Balance, limit: NanoUsd, left: int) -> JsonObject:
    return {
        "id": f"{balance.scope}/{balance.window}",
        "scope": balance.scope,
        "window": balance.window,
        "limit_usd": usd_text(limit),
        "settled_usd": usd_text(balance.settled_nano_usd),
        "reserved_usd": usd_text(balance.reserved_nano_usd),
        "left_usd": usd_text(NanoUsd(left)),
    }
