"""An upgrade from counters of users without their tenant: nothing that was spent is forgotten, on either side."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from admission.connect import Admission
from bench.store.sample_jobs import PRICE, closed, new_job
from schemas.admission import BudgetCounter, SettleKind, Settlement
from schemas.attempt import OpenedAttempt
from schemas.decision import DeadLetter, DeadReason
from schemas.ids import AttemptId, KeyId, TenantId
from schemas.money import NanoUsd
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.ledger.ledger import LedgerTable
from storage.queue.transitions import DueTable
from storage.tenancy.configuration import ConfigRow
from storage.tenancy.keys import KeyTable
from tasks.budgets.counters import Window, window_name
from tasks.configuration.effective import Configuration
from tasks.ledger.reconciliation import LedgerReconciler
from tests.support.admission_fixture import an_ask, granted

UTC_ZONE = "UTC"
OVER = DeadLetter(reason=DeadReason.UNKNOWN, message="over")
BUDGET = {"scope": "user", "window": "day", "timezone": UTC_ZONE, "limit_usd": "1"}
BARE = "user:carol"


@dataclass
class Rows:
    """One budget of each user a day."""

    async def all(self) -> Sequence[ConfigRow]:
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        return [ConfigRow(name="budget/day/UTC/user", version=1, value=BUDGET, source="file", changed_at=moment)]


@dataclass
class Both:
    """Both stores, and what this version does with them."""

    admission: Admission
    engine: AsyncEngine
    reconciler: LedgerReconciler

    def counter(self, scope: str) -> BudgetCounter:
        [budget] = (self.reconciler.configuration.effective or pytest.fail("nothing is in force")).budgets
        window = window_name(Window.DAY, budget.timezone, datetime.now(UTC))
        return BudgetCounter(scope=scope, window=window, limit_nano_usd=budget.limit_nano_usd)

    async def spend_under_the_bare_name(self, tenant: str, cost: int) -> None:
        """What a process of the version before does for a call of this tenant's carol, a minute ago."""
        key = uuid.uuid4().hex
        await KeyTable(self.engine).create(KeyId(f"key_{key}"), key, TenantId(tenant), ["submit"])
        jobs = JobTable(self.engine, holder="w", lease_seconds=600)
        job = new_job(tenant_id=TenantId(tenant), user="carol")
        await jobs.insert([job])
        [held] = await jobs.hold([(job.id, 0)])
        assert held is not None
        epoch = await self.reconciler.table.epoch()
        ask = an_ask(key, counters=(self.counter(BARE),), cost_nano_usd=NanoUsd(100), epoch=epoch)
        grant, minute_ago = granted(await self.admission.gate.admit(ask)), datetime.now(UTC) - timedelta(minutes=1)
        attempt = OpenedAttempt(
            id=AttemptId(f"att_{key}"),
            job_id=job.id,
            fence=held.lease.fence,
            target=grant.target,
            grant=grant,
            price=PRICE,
            request={},
            opened_at=minute_ago,
        )
        assert await jobs.open([attempt]) == [True]
        end = replace(closed(attempt, cost=cost), closed_at=minute_ago)
        await jobs.record([Record(lease=held.lease, closed=end, decision=OVER)])
        posted = Settlement(grant=grant, kind=SettleKind.POST, actual_tokens=1, actual_nano_usd=NanoUsd(cost))
        await self.admission.gate.settle(posted)

    async def settled(self) -> dict[str, int]:
        scopes = (BARE, "user:a/carol", "user:b/carol")
        balances = await self.admission.gate.budgets([self.counter(scope) for scope in scopes])
        return {balance.scope: balance.settled_nano_usd for balance in balances}


@pytest.fixture
async def both(admission: Admission, engine: AsyncEngine) -> Both:
    ledger = LedgerTable(engine)
    reconciler = LedgerReconciler(
        table=ledger,
        due=DueTable(engine),
        redis=admission.ledger,
        configuration=Configuration(Rows()),
        now=lambda: datetime.now(UTC),
    )
    await reconciler.configuration.refresh()
    await reconciler.keep_open()
    return Both(admission, engine, reconciler)


async def upgraded(both: Both) -> list[int]:
    """What the first rounds of this version's upkeep return after its release."""
    async with both.engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE tenant_ledger_seal SET counters_carried = false")
    both.reconciler = replace(both.reconciler)
    return [await both.reconciler.keep_open() for _ in range(2)]


async def test_what_a_bare_name_spent_is_carried_to_each_tenants_own(both: Both) -> None:
    was = await both.settled()
    await both.spend_under_the_bare_name("a", 70)
    await both.spend_under_the_bare_name("b", 20)
    before = await both.settled()

    assert before == {**was, BARE: was[BARE] + 90}
    assert await upgraded(both) == [1, 0]
    assert await both.settled() == {BARE: 0, "user:a/carol": 70, "user:b/carol": 20}


async def test_spend_of_the_previous_version_is_added_and_its_counter_unchanged(both: Both) -> None:
    await both.spend_under_the_bare_name("a", 70)
    await upgraded(both)
    before = await both.settled()

    await both.spend_under_the_bare_name("a", 5)
    repaired = [await both.reconciler.audit() for _ in range(2)]

    assert repaired == [1, 0]
    assert await both.settled() == {**before, BARE: 5, "user:a/carol": before["user:a/carol"] + 5}
