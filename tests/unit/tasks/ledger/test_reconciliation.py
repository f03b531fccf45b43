"""A charge, a stamp or a counter that raises holds up no other of its round."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from admission.limits import Balance, Holdings
from schemas.admission import BudgetCounter, Grant, SettleKind, Settlement
from schemas.attempt import AttemptState, Unsettled
from schemas.ids import AttemptId, JobId
from schemas.job import Target
from schemas.money import ZERO, NanoUsd
from storage.ledger.ledger import AuditedLedger
from storage.queue.transitions import Rescued
from tasks.configuration.effective import Configuration
from tasks.ledger.reconciliation import LedgerReconciler

NOW = datetime(2026, 11, 24, tzinfo=UTC)
TARGET = Target(account="a", model="m")


def stamp_of(attempt_id: str) -> str:
    return f"{attempt_id}|1|5|0|0|0|0"


def lost(attempt_id: str) -> Unsettled:
    grant = Grant(stamp=stamp_of(attempt_id), wait_ms=0, tokens=1, cost_nano_usd=NanoUsd(5), target=TARGET, epoch=1)
    return Unsettled(
        attempt_id=AttemptId(attempt_id),
        job_id=JobId("job_1"),
        state=AttemptState.SUSPENSE,
        grant=grant,
        opened_at=NOW,
    )


@dataclass
class Postgres:
    """Two lost calls, and no money spent."""

    attempts: Sequence[Unsettled] = (lost("odd"), lost("att_1"))

    async def all(self) -> Sequence[object]:
        return []

    async def now(self) -> datetime:
        return NOW

    async def epoch(self) -> int:
        return 1

    async def suspense(self, **_: object) -> Sequence[Unsettled]:
        return self.attempts

    async def presume(self, _: Unsettled) -> bool:
        return True

    async def rescue(self, _: datetime) -> Rescued:
        return Rescued(jobs=frozenset({JobId("job_1")}), suspended=tuple(self.attempts))

    async def ends(self, _: object) -> dict[AttemptId, object]:
        return {}

    async def audited(self, *_: object, **__: object) -> AuditedLedger:
        return AuditedLedger(sums=[], open_before=frozenset(), ends={})


@dataclass
class Redis:
    """Money that was never spent in two counters; nothing that is named `odd` can be written."""

    settled: list[tuple[str, SettleKind]] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    async def suspended(self, *_: object, **__: object) -> tuple[Sequence[str], int]:
        return ["no stamp", stamp_of("att_1")], 0

    async def resolve(self, settlement: Settlement) -> bool:
        if settlement.grant.stamp == stamp_of("odd"):
            raise OverflowError
        self.settled.append((settlement.grant.stamp, settlement.kind))
        return True

    async def counters(self, _: object) -> Sequence[BudgetCounter]:
        return [BudgetCounter(scope=scope, window="day", limit_nano_usd=ZERO) for scope in ("odd", "global")]

    async def holdings(self, counters: Sequence[BudgetCounter]) -> Holdings:
        balances = [
            Balance(
                scope=counter.scope,
                window=counter.window,
                limit_nano_usd=None,
                settled_nano_usd=NanoUsd(7),
                reserved_nano_usd=ZERO,
            )
            for counter in counters
        ]
        return Holdings(epoch=1, stamps=(), balances=tuple(balances))

    async def repair(self, _: int, counter: BudgetCounter, *, settled: int, reserved: int) -> bool:
        if counter.scope == "odd":
            raise OverflowError
        self.repaired.append(counter.scope)
        return True


def reconciler(redis: Redis) -> LedgerReconciler:
    rows: Any = Postgres()
    ledger: Any = redis
    return LedgerReconciler(table=rows, due=rows, redis=ledger, configuration=Configuration(rows), now=lambda: NOW)


async def test_a_stamp_that_cannot_be_read_holds_up_no_other() -> None:
    redis = Redis()

    assert await reconciler(redis).reconcile() == 1
    assert redis.settled == [(stamp_of("att_1"), SettleKind.RELEASE)]


async def test_a_charge_that_cannot_be_presumed_holds_up_no_other() -> None:
    redis = Redis()

    assert await reconciler(redis).presume() == 1
    assert redis.settled == [(stamp_of("att_1"), SettleKind.POST)]


async def test_a_charge_of_a_dead_worker_that_cannot_be_held_holds_up_no_other() -> None:
    redis = Redis()

    assert await reconciler(redis).rescue(NOW) == 1
    assert redis.settled == [(stamp_of("att_1"), SettleKind.SUSPEND)]


async def test_a_counter_that_cannot_be_repaired_holds_up_no_other() -> None:
    redis = Redis()

    assert await reconciler(redis).audit() == 1
    assert redis.repaired == ["global"]
