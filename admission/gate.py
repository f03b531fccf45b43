"""Decides admission over all limits and budgets in one round trip, on the Redis server's clock.

Invariants: a grant's money is reserved in every counter; a stamp settles once; without the epoch key nothing is
granted. A limit pinned in Redis (`Ledger.pin_limits`) overrides the ask's.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from admission.arguments import (
    ORIGIN,
    grant_of,
    limit_arguments,
    milliseconds,
    moment_us,
    pace_argument,
    reading_arguments,
    refusal_of,
    share_argument,
    target_name,
    target_named,
)
from admission.balances import HIGHEST_LIMIT_NANO_USD, read_balances, retention_seconds
from admission.keys import Keys
from admission.learning import read_penalty, read_requests, read_tokens
from admission.limits import Balance, LimitsSnapshot, ShareSnapshot, TargetLimits
from admission.scripts import ADMIT, CONFIGURE, DOUBT, EXPIRE, PENALIZE, SETTLE
from admission.snapshots import read_share_snapshots, read_snapshot
from admission.stamps import bucket_of, read_stamp, stamp_name, tenant_of
from admission.wire import Wire, Word
from config.amounts import MAX_BUDGETS_OF_A_JOB
from schemas.admission import (
    Ask,
    BudgetCounter,
    Grant,
    Penalty,
    Refusal,
    RefusalReason,
    SettleKind,
    Settlement,
    Wait,
    WaitReason,
)
from schemas.errors import InvalidRequest
from schemas.ids import AttemptId, JobId, TenantId
from schemas.job import Target

DEFAULT_LIFETIME_SECONDS = 660.0
"""Longer than the longest call (600 s), so an expired reservation belongs to a dead worker."""

DOUBT_SECONDS = 600
"""How long a job's refusal counts towards stopping its account. An empty account refuses a second job within
minutes."""


class Gate:
    """Decides admission without waiting. `clock_us` replaces the server's clock in tests."""

    def __init__(
        self,
        wire: Wire,
        keys: Keys,
        *,
        lifetime_seconds: float = DEFAULT_LIFETIME_SECONDS,
        clock_us: Callable[[], int] | None = None,
    ) -> None:
        self._wire = wire
        self._keys = keys
        self._lifetime_us = int(lifetime_seconds * 1_000_000)
        self._clock_us = clock_us

    async def admit(self, ask: Ask) -> Grant | Wait | Refusal:
        """Decide now. Raises RedisUnavailable (then nothing may be sent) and InvalidRequest (too many budgets)."""
        ask = _counted_once(ask)
        keys, args = self._admit_arguments(ask)
        verdict, second, third = await self._wire.run(ADMIT, keys, args)
        if verdict == 1:
            return grant_of(ask, wait_us=second, stamp=third.decode())
        if verdict == 0:
            return Wait(retry_after_ms=max(1, milliseconds(second)), reason=WaitReason(third.decode()))
        return refusal_of(ask, RefusalReason(second.decode()), third.decode())

    async def settle(self, settlement: Settlement) -> bool:
        """Replace the reservation by the actual usage; False if the stamp is unknown or settled."""
        grant = settlement.grant
        keys = [
            self._keys.bucket(bucket_of(grant)),
            self._keys.in_flight(bucket_of(grant)),
            self._keys.suspense,
            self._keys.budget_events,
            *map(self._keys.counter, grant.counters),
            *self._share_keys(tenant_of(grant)),
        ]
        return bool(await self._wire.run(SETTLE, keys, self._settle_arguments(settlement)))

    async def penalize(self, target: Target, penalty: Penalty) -> None:
        """Freeze the target for all workers after a 429; its figures teach the rate, a ramp halves it."""
        lesson = read_penalty(penalty)
        interval = "" if lesson.interval_us is None else repr(lesson.interval_us)
        ramp = int(penalty.ramp)
        args: list[Word] = [
            target_name(target),
            penalty.wait_ms * 1_000,
            lesson.dimension,
            interval,
            ramp,
            self.clock_argument(),
        ]
        keys = [self._keys.bucket(target), self._keys.targets, self._keys.frozen_by(target)]
        await self._wire.run(PENALIZE, keys, args)

    async def doubt_account(self, account: str, reason: str, job_id: JobId) -> bool:
        """Count a refusal of this account's key or money; True if it is stopped. Safe to call twice.

        A second job's refusal within `DOUBT_SECONDS` stops it. Jobs that stopped it count again only `DOUBT_SECONDS`
        after it was opened.
        """
        keys = [self._keys.account(account), self._keys.doubt(account)]
        return bool(await self._wire.run(DOUBT, keys, [reason, job_id, DOUBT_SECONDS]))

    async def open_account(self, account: str) -> str | None:
        """Open the account again; returns why it was stopped, None if it was open."""
        await self._wire.command("EXPIRE", self._keys.doubt(account), DOUBT_SECONDS)
        reason = await self._wire.command("GETDEL", self._keys.account(account))
        return None if reason is None else str(reason.decode())

    async def configure(self, limits: TargetLimits, version: int) -> bool:
        """Apply limits, keeping what was learned and spent; False if a newer version is in force."""
        keys = [self._keys.bucket(limits.target), self._keys.targets]
        return bool(
            await self._wire.run(
                CONFIGURE, keys, [*limit_arguments(limits, version), *self._day_ends(limits), self.clock_argument()]
            )
        )

    async def expire(self, limit: int = 100) -> list[str]:
        """Turn expired reservations into unresolved charges; returns their stamps. Money stays reserved."""
        moved: list[str] = []
        for target in await self.targets():
            keys = [self._keys.in_flight(target), self._keys.suspense]
            stamps = await self._wire.run(EXPIRE, keys, [limit - len(moved), self.clock_argument()])
            moved += [stamp.decode() for stamp in stamps]
            if len(moved) >= limit:
                break
        return moved

    async def know(self, target: Target) -> None:
        """Add a target to the index that expiry scans."""
        await self._wire.command("SADD", self._keys.targets, target_name(target))

    async def stamps_of(self, bucket: Target, attempts: Collection[AttemptId]) -> list[tuple[AttemptId, str]]:
        """Return live stamps of these attempts. Reads all stamps; only a rare lost reply needs it."""
        live = await self._wire.command("ZRANGE", self._keys.in_flight(bucket), 0, -1)
        stamps = ((read_stamp(stamp.decode()).attempt_id, stamp.decode()) for stamp in live)
        return [(attempt_id, stamp) for attempt_id, stamp in stamps if attempt_id in attempts]

    async def targets(self) -> list[Target]:
        """Return every target that was configured or asked for."""
        members = await self._wire.command("SMEMBERS", self._keys.targets)
        return sorted(map(target_named, members), key=str)

    async def share_snapshots(self, tenants: Sequence[TenantId]) -> list[ShareSnapshot]:
        """Return what tenants use of their shares, in this order; calls without a share are not counted."""
        return await read_share_snapshots(self._wire, self._keys, tenants, self._clock_us)

    async def snapshot(self, target: Target) -> LimitsSnapshot | None:
        """Return the target's limits as configured, learned and used; None if Redis does not know it."""
        return await read_snapshot(self._wire, self._keys, target, self._clock_us)

    async def budgets(self, counters: Sequence[BudgetCounter]) -> list[Balance]:
        """Return the balances in this order."""
        return await read_balances(self._wire, self._keys, counters)

    async def current_epoch(self) -> int | None:
        """Return the ledger's epoch in Redis; None while it is closed."""
        epoch = await self._wire.command("GET", self._keys.epoch)
        return int(epoch) if epoch is not None else None

    def _admit_arguments(self, ask: Ask) -> tuple[list[str], list[Word]]:
        keys = [
            self._keys.epoch,
            self._keys.account(ask.target.account),
            self._keys.bucket(ask.bucket),
            self._keys.in_flight(ask.bucket),
            self._keys.targets,
            self._keys.counters,
            *map(self._keys.counter, ask.counters),
            *self._share_keys(None if ask.share is None else ask.share.tenant_id),
        ]
        args: list[Word] = [
            ask.epoch,
            stamp_name(ask),
            ask.lane.rank + 1,
            ask.tokens,
            ask.cost_nano_usd,
            self._lifetime_us,
            ask.waited_ms * 1_000,
            int(ask.has_ticket),
            ask.horizon_ms * 1_000,
            target_name(ask.bucket),
            self.clock_argument(),
            share_argument(ask),
        ]
        for counter in ask.counters:
            limit = min(counter.limit_nano_usd, HIGHEST_LIMIT_NANO_USD)
            args += [limit, retention_seconds(counter.window), pace_argument(counter.pace)]
        return keys, args

    def _share_keys(self, tenant_id: TenantId | None) -> list[str]:
        if tenant_id is None:
            return []
        return [self._keys.tenant_rates(tenant_id), self._keys.tenant_in_flight(tenant_id)]

    def _settle_arguments(self, settlement: Settlement) -> list[Word]:
        released = settlement.kind is SettleKind.RELEASE
        args: list[Word] = [
            settlement.grant.stamp,
            settlement.kind.value,
            0 if released else settlement.actual_tokens,
            0 if released else settlement.actual_nano_usd,
            int(settlement.refund_permits),
            *reading_arguments(read_requests(settlement.headers)),
            *reading_arguments(read_tokens(settlement.headers)),
            self.clock_argument(),
            int(tenant_of(settlement.grant) is not None),
        ]
        for counter in settlement.grant.counters:
            args += [counter.limit_nano_usd, counter.scope, counter.window]
        return args

    def _day_ends(self, limits: TargetLimits) -> tuple[int, int]:
        if limits.day_resets is None:
            return 0, 0
        clock = self._clock_us
        now = ORIGIN + timedelta(microseconds=clock()) if clock else datetime.now(UTC)
        first, second = map(moment_us, limits.day_resets.ends_after(now))
        return first, second

    def clock_argument(self) -> Word:
        """The clock argument of scripts; empty means the server's clock."""
        return self._clock_us() if self._clock_us else ""


def _counted_once(ask: Ask) -> Ask:
    """Merge counters of one scope and window under the lower limit, so that money counts once."""
    strictest: dict[tuple[str, str], BudgetCounter] = {}
    for counter in ask.counters:
        same = strictest.setdefault((counter.scope, counter.window), counter)
        if counter.limit_nano_usd < same.limit_nano_usd:
            strictest[counter.scope, counter.window] = counter
    if len(strictest) > MAX_BUDGETS_OF_A_JOB:
        raise InvalidRequest(f"A job may count against {MAX_BUDGETS_OF_A_JOB} budgets, not {len(strictest)}.")
    return ask if len(strictest) == len(ask.counters) else replace(ask, counters=tuple(strictest.values()))
