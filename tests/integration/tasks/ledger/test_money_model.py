"""The books over both real stores against a model: whatever is lost in whatever order, no limit is passed."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from admission.connect import Admission
from bench.store.sample_jobs import PRICE, closed, new_job
from schemas.admission import BudgetCounter, Grant, SettleKind, Settlement
from schemas.attempt import AttemptState, OpenedAttempt
from schemas.decision import DeadLetter, DeadReason
from schemas.ids import AttemptId, TenantId
from schemas.job import Lease
from schemas.money import NanoUsd
from storage.database.engine import open_engine
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.ledger.checkpoints import SealTable
from storage.ledger.ledger import LedgerTable
from storage.queue.transitions import DueTable
from storage.tenancy.configuration import ConfigRow
from tasks.budgets.counters import counters_for
from tasks.configuration.effective import Configuration
from tasks.ledger.reconciliation import LedgerReconciler
from tests.support.admission_fixture import Clock, an_ask, open_admission
from tests.support.fakes import a_job
from tests.support.ledger_model import LedgerModel, Reserved

Step: TypeAlias = tuple[str, Any]
OVER = DeadLetter(reason=DeadReason.UNKNOWN, message="over")
LIMITS = (1_000, 1_700)
STATE = {"posted": AttemptState.POSTED, "released": AttemptState.RELEASED, "suspense": AttemptState.SUSPENSE}
KIND = {"posted": SettleKind.POST, "released": SettleKind.RELEASE, "suspense": SettleKind.SUSPEND}
LIFETIME_SECONDS = 60.0

STEPS = st.one_of(
    st.tuples(st.just("begin"), st.sampled_from([1, 90, 250, 600])),
    st.tuples(st.just("begin"), st.sampled_from([1, 90, 250, 600])),
    st.tuples(st.just("ask_and_die"), st.sampled_from([40, 300])),
    st.tuples(
        st.just("finish"),
        st.tuples(st.integers(0, 9), st.sampled_from(sorted(STATE)), st.sampled_from([0, 1, 200]), st.booleans()),
    ),
    st.tuples(st.sampled_from(["expire", "reconcile", "presume", "wipe", "audit", "forget", "seal"]), st.none()),
    st.tuples(st.just("tamper"), st.tuples(st.sampled_from([-70, 0, 33]), st.sampled_from([-9, 0, 500]))),
)


@dataclass
class Rows:
    """Two budgets of one tenant."""

    tenant: str

    async def all(self) -> Sequence[ConfigRow]:
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        return [
            ConfigRow(
                name=f"budget/{window}/UTC/tenant:{self.tenant}",
                version=1,
                value={
                    "scope": f"tenant:{self.tenant}",
                    "window": window,
                    "timezone": "UTC",
                    "limit_usd": f"{limit / 1e9:.9f}",
                },
                source="file",
                changed_at=moment,
            )
            for window, limit in zip(("day", "month"), LIMITS, strict=True)
        ]


@dataclass
class Both:
    """The real stores and the model, moved together."""

    admission: Admission
    clock: Clock
    engine: AsyncEngine
    reconciler: LedgerReconciler
    counters: tuple[BudgetCounter, ...]
    model: LedgerModel
    opened: list[tuple[Reserved, OpenedAttempt, Lease]] = field(default_factory=list)
    tampered: bool = False

    def __post_init__(self) -> None:
        self.jobs = JobTable(self.engine, holder="w", lease_seconds=600)
        self.seals = SealTable(self.engine)

    async def begin(self, cost: int) -> None:
        grant = await self._admit(cost)
        if grant is None:
            return
        job = new_job()
        await self.jobs.insert([job])
        [held] = await self.jobs.hold([(job.id, 0)])
        assert held is not None
        attempt = OpenedAttempt(
            id=AttemptId(grant.stamp.split(" ")[0]),
            job_id=job.id,
            fence=held.lease.fence,
            target=grant.target,
            grant=grant,
            price=PRICE,
            request={},
            opened_at=datetime.now(UTC) - timedelta(minutes=1),
        )
        assert await self.jobs.open([attempt]) == [True]
        one = self.model.attempts[-1]
        one.state = "opened"
        self.opened.append((one, attempt, held.lease))

    async def ask_and_die(self, cost: int) -> None:
        await self._admit(cost)

    async def finish(self, how: tuple[int, str, int, bool]) -> None:
        number, end, cost, heard = how
        if not self.opened:
            return
        one, attempt, lease = self.opened.pop(number % len(self.opened))
        row = replace(closed(attempt, cost=cost, state=STATE[end]), closed_at=datetime.now(UTC) - timedelta(minutes=1))
        await self.jobs.record([Record(lease=lease, closed=row, decision=OVER)])
        if heard:
            grant = replace(attempt.grant, target=attempt.target)
            done = Settlement(grant=grant, kind=KIND[end], actual_tokens=1, actual_nano_usd=NanoUsd(cost))
            await self.admission.gate.settle(done)
        self.model.finish(one, end, cost, heard=heard)

    async def expire(self, _: None) -> None:
        self.clock.pass_seconds(LIFETIME_SECONDS + 1)
        await self.admission.gate.expire(limit=1_000)
        self.model.expire()

    async def reconcile(self, _: None) -> None:
        await self.reconciler.reconcile()
        self.model.reconcile()

    async def presume(self, _: None) -> None:
        await self.reconciler.presume(after_seconds=0)
        self.model.presume()

    async def wipe(self, _: None) -> None:
        names = await self.admission.wire.command("KEYS", f"{self.admission.keys.epoch.removesuffix('epoch')}*")
        await self.admission.wire.command("DEL", *names)
        assert await self.reconciler.keep_open() == 1
        self.model.rebuild()

    async def seal(self, _: None) -> None:
        """Mark, and add up to the mark: no balance may change by it."""
        await self.seals.seal()
        await self.seals.seal()

    async def audit(self, _: None) -> None:
        assert await self.reconciler.audit() == 0

    async def forget(self, _: None) -> None:
        """A server that came back without its last writes: a reservation that Postgres holds open is gone."""
        if not self.opened:
            return
        attempt = self.opened[0][1]
        await self.admission.gate.settle(Settlement(grant=attempt.grant, kind=SettleKind.RELEASE))
        await self.reconciler.audit()
        self.model.rebuild()

    async def tamper(self, by: tuple[int, int]) -> None:
        settled, reserved = by
        for counter in self.counters:
            await self.admission.wire.command("HINCRBY", self.admission.keys.counter(counter), "s", settled)
            await self.admission.wire.command("HINCRBY", self.admission.keys.counter(counter), "r", reserved)
        known = await self.admission.ledger.counters({counter.window for counter in self.counters})
        assert await self.reconciler.audit() == (len(known) if settled or reserved else 0)
        if not known:  # what no index names was never admitted, and goes with its window
            await self.admission.wire.command("DEL", *map(self.admission.keys.counter, self.counters))

    async def compare(self) -> None:
        balances = await self.admission.gate.budgets(self.counters)
        expected = (self.model.settled, self.model.reserved)
        assert [(each.settled_nano_usd, each.reserved_nano_usd) for each in balances] == [expected] * 2
        assert sum(expected) <= min(LIMITS) or self.model.booked + self.model.reserved > min(LIMITS)
        async with self.engine.connect() as connection:
            [booked] = (await connection.execute(text("SELECT COALESCE(sum(nano_usd), 0) FROM ledger"))).one()
        assert booked == self.model.booked

    async def _admit(self, cost: int) -> Grant | None:
        epoch = await self.admission.gate.current_epoch() or 0
        ask = an_ask(uuid.uuid4().hex, cost_nano_usd=NanoUsd(cost), counters=self.counters, epoch=epoch)
        answer = await self.admission.gate.admit(ask)
        assert isinstance(answer, Grant) == self.model.admits(cost), answer
        if not isinstance(answer, Grant):
            return None
        self.model.attempts.append(Reserved(reserved=cost))
        return answer


async def live(redis_url: str, database_url: str, steps: list[Step]) -> None:
    engine, clock, tenant = open_engine(database_url, application="tests"), Clock(), uuid.uuid4().hex
    try:
        async with engine.begin() as connection:
            await connection.execute(text("TRUNCATE jobs, ledger, attempts, tenant_sealed_sums CASCADE"))
        async with open_admission(redis_url, clock, lifetime_seconds=LIFETIME_SECONDS) as admission:
            configuration = Configuration(Rows(tenant))
            effective = await configuration.refresh()
            now = datetime.now(UTC)
            counters = counters_for(a_job(tenant_id=TenantId(tenant)), effective.budgets, now)
            reconciler = LedgerReconciler(
                table=LedgerTable(engine),
                due=DueTable(engine),
                redis=admission.ledger,
                configuration=configuration,
                now=lambda: now,
            )
            await reconciler.keep_open()
            both = Both(admission, clock, engine, reconciler, counters, LedgerModel(limits=LIMITS))
            for name, how in steps:
                await getattr(both, name)(how)
                await both.compare()
    finally:
        await engine.dispose()


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(STEPS, min_size=5, max_size=25))
def test_both_stores_and_the_model_agree_on_every_nano_dollar(
    redis_url: str, fresh_database_url: str, steps: list[Step]
) -> None:
    asyncio.run(live(redis_url, fresh_database_url, steps))
