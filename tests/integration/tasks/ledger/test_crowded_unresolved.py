"""A crowd in suspense, over the real stores: what stays there for a day hides nothing that can be settled now."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from admission.connect import Admission
from admission.ledger import Ledger
from admission.stamps import read_stamp
from bench.store.sample_jobs import new_job, opened
from schemas.admission import Grant, SettleKind, Settlement
from schemas.attempt import OpenedAttempt
from schemas.decision import DeadLetter, DeadReason
from schemas.ids import AttemptId
from schemas.job import Target
from schemas.money import NanoUsd, Price
from schemas.reply import Reply
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.ledger.ledger import LedgerTable
from storage.ledger.unresolved import SuspenseTable
from storage.queue.transitions import DueTable
from storage.tenancy.configuration import ConfigTable
from tasks.configuration.effective import Configuration
from tasks.ledger.reconciliation import RECONCILED_PER_ROUND, LedgerReconciler
from tasks.ledger.unresolved import ASKED_PER_ROUND, FIRST_LOOK_SECONDS, LookUps
from tests.support.admission_fixture import Clock, a_counter, an_ask, granted
from tests.support.fakes import a_reply

COUNTER = a_counter(10_000_000)
STAYING = 3 * RECONCILED_PER_ROUND
ROUNDS = 10
"""Two turns through so many, and room for what a page may lack."""

OVER = DeadLetter(reason=DeadReason.UNKNOWN, message="over")


@pytest.fixture
def reconciler(engine: AsyncEngine, admission: Admission) -> LedgerReconciler:
    return LedgerReconciler(
        table=LedgerTable(engine),
        due=DueTable(engine),
        redis=admission.ledger,
        configuration=Configuration(ConfigTable(engine)),
        now=lambda: datetime.now(UTC),
    )


async def reserve(admission: Admission, cost: int, number: int) -> list[Grant]:
    asks = [an_ask(uuid.uuid4().hex, cost_nano_usd=NanoUsd(cost), counters=(COUNTER,)) for _ in range(number)]
    return [granted(await admission.gate.admit(ask)) for ask in asks]


def id_of(grant: Grant) -> AttemptId:
    return read_stamp(grant.stamp).attempt_id


async def lose(engine: AsyncEngine, admission: Admission, grants: Sequence[Grant], account: str = "acme") -> None:
    """Their calls are in suspense in both stores: their worker died."""
    table, job = JobTable(engine, holder="w", lease_seconds=600), new_job()
    await table.insert([job])
    [held] = await table.hold([(job.id, 0)])
    assert held is not None
    target = Target(account=account, model="m")
    like = replace(opened(held.lease), opened_at=datetime.now(UTC) - timedelta(minutes=1))
    attempts = [replace(like, id=id_of(grant), grant=grant, target=target) for grant in grants]
    assert all(await table.open(attempts))
    await table.record([Record(lease=held.lease, closed=None, decision=OVER)])
    while await LedgerTable(engine).suspend_orphans(older_seconds=0):
        pass
    for grant in grants:
        assert await admission.gate.settle(Settlement(grant=grant, kind=SettleKind.SUSPEND))


async def reserved(admission: Admission) -> int:
    [balance] = await admission.ledger.balances([COUNTER])
    return balance.reserved_nano_usd


async def test_what_stays_in_suspense_hides_no_reservation_that_was_never_opened(
    engine: AsyncEngine, admission: Admission, reconciler: LedgerReconciler, clock: Clock
) -> None:
    await lose(engine, admission, await reserve(admission, 1, STAYING))
    await reserve(admission, 1_000, 30)
    clock.pass_seconds(660)
    assert len(await admission.gate.expire(limit=100)) == 30

    released = [await reconciler.reconcile() for _ in range(ROUNDS)]

    assert sum(released) == 30
    assert await reserved(admission) == STAYING


async def test_a_settlement_lost_after_its_stamp_was_read_is_found_next_turn(
    engine: AsyncEngine, admission: Admission, reconciler: LedgerReconciler
) -> None:
    staying = await reserve(admission, 1, STAYING)
    await lose(engine, admission, staying)
    before = [await reconciler.reconcile() for _ in range(ROUNDS)]
    unheard, heard = staying[::100], staying[1::2]
    for grant in unheard:
        assert await reconciler.table.post(id_of(grant), NanoUsd(0))

    found = []
    for part in range(ROUNDS):
        found.append(await reconciler.reconcile())
        for grant in heard[part::ROUNDS]:
            await admission.ledger.resolve(Settlement(grant=grant, kind=SettleKind.RELEASE))

    assert sum(before) == 0
    assert sum(found) == len(unheard)
    assert await reserved(admission) == STAYING - len(unheard) - len(heard)


class Unsettling(Ledger):
    """A ledger that fails to settle one stamp."""

    failing = AttemptId("")
    tries = 0

    async def resolve(self, settlement: Settlement) -> bool:
        if read_stamp(settlement.grant.stamp).attempt_id == self.failing:
            self.tries += 1
            raise KeyError(self.failing)
        return await super().resolve(settlement)


async def test_a_stamp_that_cannot_be_settled_is_logged_once_and_tried_ever_less(
    engine: AsyncEngine, admission: Admission, clock: Clock
) -> None:
    [odd] = await reserve(admission, 1_000, 1)
    clock.pass_seconds(660)
    assert len(await admission.gate.expire(limit=100)) == 1
    ledger, now = Unsettling(admission.wire, admission.keys, admission.gate), 0.0
    ledger.failing = id_of(odd)
    reconciler = LedgerReconciler(
        table=LedgerTable(engine),
        due=DueTable(engine),
        redis=ledger,
        configuration=Configuration(ConfigTable(engine)),
        now=lambda: datetime.now(UTC),
        clock=lambda: now,
    )

    with capture_logs() as logs:
        for now in range(100):  # noqa: B007 - the books read it as their clock
            await reconciler.reconcile()

    assert [entry["event"] for entry in logs].count("item_failed") == 1
    assert ledger.tries == 7


class Forgetful:
    """An account that answers every question, and has kept one completion."""

    def __init__(self, kept: AttemptId) -> None:
        self._kept = kept
        self.asked: list[AttemptId] = []

    async def look_up(self, _: Target, attempt_id: AttemptId) -> Reply | None:
        self.asked.append(attempt_id)
        return a_reply() if attempt_id == self._kept else None

    def served_price(self, opened: OpenedAttempt, _: Reply) -> Price:
        return opened.price


@pytest.mark.parametrize("kept", [0, 600, -1])
async def test_what_an_account_does_not_have_hides_nothing_that_it_has(
    engine: AsyncEngine, admission: Admission, reconciler: LedgerReconciler, kept: int
) -> None:
    grants = await reserve(admission, 1_000, 11 * ASKED_PER_ROUND)
    name = uuid.uuid4().hex
    await lose(engine, admission, grants, name)
    account = Forgetful(id_of(grants[kept]))
    now = await reconciler.table.now() + timedelta(seconds=FIRST_LOOK_SECONDS)
    look_ups = LookUps(
        rows=SuspenseTable(engine),
        post=reconciler.table.post,
        settle=admission.ledger.resolve,
        keepers=account,
        accounts={name},
        now=lambda: now,
    )

    booked = [await look_ups.look() for _ in range(15)]

    assert sum(booked) == 1
    assert sorted(account.asked) == sorted(map(id_of, grants))
    assert await reserved(admission) == 1_000 * (len(grants) - 1)
