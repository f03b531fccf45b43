"""Maintains the money in Redis: epochs, rebuilds, unresolved charges, pinned limits, thresholds.

Postgres is the truth. A rebuild raises the epoch there, reads, and writes here with the epoch key last. Invariant:
settled + reserved <= limit. A settlement during a rebuild leaves a stamp that expires: money may be held too long,
never too short.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from admission.balances import HIGHEST_LIMIT_NANO_USD, read_balances, retention_seconds
from admission.gate import DEFAULT_LIFETIME_SECONDS, Gate
from admission.keys import Keys
from admission.limits import Balance, Holdings, TargetLimits
from admission.scripts import HOLDINGS, LIMIT, REBUILD, REPAIR
from admission.stamps import bucket_of, read_stamp, tenant_of
from admission.wire import Wire, Word
from schemas.admission import BudgetCounter, Grant, Settlement
from schemas.money import NanoUsd

STAMPS_PER_CALL = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenReservation:
    """An unsettled attempt from Postgres; `suspended` if its call is no longer awaited."""

    grant: Grant
    suspended: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetEvent:
    """A counter passed a percentage of its limit; `id` orders and deletes events."""

    id: str
    scope: str
    window: str
    percent: int
    limit_nano_usd: NanoUsd


class Ledger:
    """The ledger as upkeep sees it; a later rebuild replaces an earlier one."""

    def __init__(
        self, wire: Wire, keys: Keys, gate: Gate, *, lifetime_seconds: float = DEFAULT_LIFETIME_SECONDS
    ) -> None:
        self._wire = wire
        self._keys = keys
        self._gate = gate
        self._lifetime_us = int(lifetime_seconds * 1_000_000)

    async def epoch(self) -> int | None:
        """Return the epoch in force; None if the ledger must be rebuilt."""
        return await self._gate.current_epoch()

    async def rebuild(
        self,
        epoch: int,
        balances: Iterable[Balance],
        open_reservations: Iterable[OpenReservation],
        limits: Iterable[tuple[TargetLimits, int]] = (),
    ) -> bool:
        """Rewrite the whole ledger under `epoch`; False if a newer epoch is in force.

        Each balance's `reserved` includes the open reservations. Raises RedisUnavailable; call again then.
        """
        if not await self._step(epoch, "close", []):
            return False
        for target_limits, version in limits:
            await self._gate.configure(target_limits, version)
        open_reservations = list(open_reservations)
        for target in {bucket_of(reservation.grant) for reservation in open_reservations if not reservation.suspended}:
            await self._gate.know(target)
        steps = [await self._wiped(epoch)]
        steps += [await self._count(epoch, balance) for balance in balances]
        steps += [await self._carry(epoch, key, stamps) for key, stamps in self._carried(open_reservations)]
        return all(steps) and await self._step(epoch, "open", [])

    async def resolve(self, settlement: Settlement) -> bool:
        """Post or release an unresolved charge or live reservation; False if already done."""
        return await self._gate.settle(settlement)

    async def suspended(self, cursor: int = 0, *, about: int = STAMPS_PER_CALL) -> tuple[list[str], int]:
        """Return some stamps of unresolved charges, and the next cursor; 0 starts and ends a turn.

        A stamp present during the whole turn is returned at least once.
        """
        next_cursor, members = await self._wire.command("ZSCAN", self._keys.suspense, cursor, "COUNT", about)
        return [stamp.decode() for stamp, _ in members], next_cursor

    async def balances(self, counters: Sequence[BudgetCounter]) -> list[Balance]:
        """Return the balances in this order."""
        return await read_balances(self._wire, self._keys, counters)

    async def counters(self, windows: Collection[str]) -> list[BudgetCounter]:
        """Return every counter of these windows, with a limit of 0 because limits are not read."""
        names = [name.decode() for name in await self._wire.command("ZRANGE", self._keys.counters, 0, -1)]
        scopes = map(self._keys.counter_named, names)
        return [
            BudgetCounter(scope=scope, window=window, limit_nano_usd=NanoUsd(0))
            for scope, window in scopes
            if window in windows
        ]

    async def holdings(self, counters: Sequence[BudgetCounter]) -> Holdings:
        """Read all stamps and these counters at one moment."""
        in_flight = [self._keys.in_flight(target) for target in await self._gate.targets()]
        keys = [self._keys.epoch, self._keys.suspense, *in_flight, *map(self._keys.counter, counters)]
        epoch, stamps, money = await self._wire.run(HOLDINGS, keys, [len(in_flight)])
        return Holdings(
            epoch=int(epoch) if epoch else None,
            stamps=tuple(read_stamp(stamp.decode()) for stamp in stamps),
            balances=tuple(
                _held(counter, amounts) for counter, amounts in zip(counters, money, strict=True) if amounts
            ),
        )

    async def repair(self, epoch: int, counter: BudgetCounter, *, settled: int, reserved: int) -> bool:
        """Add an audit's correction, which may be negative; False under another epoch."""
        keys = [self._keys.epoch, self._keys.counter(counter)]
        return bool(await self._wire.run(REPAIR, keys, [epoch, settled, reserved]))

    async def pin_limits(self, counters: Iterable[BudgetCounter]) -> None:
        """Put these limits in force over those of asks, because workers may ask with outdated ones."""
        for counter in counters:
            limit = _checked(counter.limit_nano_usd)
            args: list[Word] = [limit, retention_seconds(counter.window), self._gate.clock_argument()]
            await self._wire.run(LIMIT, [self._keys.counter(counter), self._keys.counters], args)

    async def events(self, limit: int = 100) -> list[BudgetEvent]:
        """Return undeleted events, oldest first; each may be read more than once."""
        entries = await self._wire.command("XRANGE", self._keys.budget_events, "-", "+", "COUNT", limit)
        return [_event(entry_id.decode(), fields) for entry_id, fields in entries]

    async def forget_events(self, events: Sequence[BudgetEvent]) -> None:
        """Delete events that are durable elsewhere. Safe to call twice."""
        if events:
            await self._wire.command("XDEL", self._keys.budget_events, *(event.id for event in events))

    async def _wiped(self, epoch: int) -> bool:
        """Nothing is admitted meanwhile, so the indexes are complete."""
        counters = [name.decode() for name in await self._wire.command("ZRANGE", self._keys.counters, 0, -1)]
        in_flight = [self._keys.in_flight(target) for target in await self._gate.targets()]
        done = await self._step(epoch, "wipe", [self._keys.suspense, self._keys.counters, *in_flight])
        for start in range(0, len(counters), STAMPS_PER_CALL):
            done = done and await self._step(epoch, "wipe", counters[start : start + STAMPS_PER_CALL])
        return done

    async def _count(self, epoch: int, balance: Balance) -> bool:
        limit = balance.limit_nano_usd
        counter = BudgetCounter(scope=balance.scope, window=balance.window, limit_nano_usd=limit or NanoUsd(0))
        args: list[Word] = [
            "" if limit is None else _checked(limit),
            balance.settled_nano_usd,
            balance.reserved_nano_usd,
            0 if limit is None else _passed(balance.settled_nano_usd, limit),
            retention_seconds(balance.window),
        ]
        return await self._step(epoch, "count", [self._keys.counters, self._keys.counter(counter)], args)

    def _carried(self, reservations: Iterable[OpenReservation]) -> list[tuple[str, list[str]]]:
        by_key: dict[str, list[str]] = {}
        for reservation in reservations:
            key = self._keys.suspense if reservation.suspended else self._keys.in_flight(bucket_of(reservation.grant))
            by_key.setdefault(key, []).append(reservation.grant.stamp)
            if (tenant_id := tenant_of(reservation.grant)) is not None and not reservation.suspended:
                by_key.setdefault(self._keys.tenant_in_flight(tenant_id), []).append(reservation.grant.stamp)
        return list(by_key.items())

    async def _carry(self, epoch: int, key: str, stamps: list[str]) -> bool:
        done = True
        lifetime_us = 0 if key == self._keys.suspense else self._lifetime_us
        for start in range(0, len(stamps), STAMPS_PER_CALL):
            part = stamps[start : start + STAMPS_PER_CALL]
            done = done and await self._step(epoch, "carry", [key], [lifetime_us, *part])
        return done

    async def _step(self, epoch: int, step: str, keys: list[str], args: Sequence[Word] = ()) -> bool:
        every_key = [self._keys.epoch, self._keys.building, *keys]
        return bool(await self._wire.run(REBUILD, every_key, [epoch, step, self._gate.clock_argument(), *args]))


def _checked(limit: NanoUsd) -> NanoUsd:
    if not 0 <= limit <= HIGHEST_LIMIT_NANO_USD:
        raise ValueError(f"a budget limit must lie between 0 and {HIGHEST_LIMIT_NANO_USD} nano-dollars, not {limit}")
    return limit


def _passed(settled: NanoUsd, limit: NanoUsd) -> int:
    return sum(bit for bit, percent in ((1, 50), (2, 80), (4, 100)) if settled * 100 >= limit * percent)


def _held(counter: BudgetCounter, money: Sequence[bytes]) -> Balance:
    settled, reserved = money
    return Balance(
        scope=counter.scope,
        window=counter.window,
        limit_nano_usd=None,
        settled_nano_usd=NanoUsd(int(settled)),
        reserved_nano_usd=NanoUsd(int(reserved)),
    )


def _event(entry_id: str, fields: dict[bytes, bytes]) -> BudgetEvent:
    return BudgetEvent(
        id=entry_id,
        scope=fields[b"scope"].decode(),
        window=fields[b"window"].decode(),
        percent=int(fields[b"percent"]),
        limit_nano_usd=NanoUsd(int(fields[b"limit"])),
    )
