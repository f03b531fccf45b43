"""The books against a real Postgres: epochs, balances, suspense, adjusting entries."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import closed, opened
from schemas.admission import BudgetCounter
from schemas.attempt import AttemptState, OpenedAttempt
from schemas.decision import DeadLetter, DeadReason
from schemas.ids import AttemptId
from schemas.job import LeasedJob
from schemas.money import NanoUsd
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.ledger.adjustments import Adjustment, AdjustmentTable
from storage.ledger.ledger import LedgerTable
from storage.ledger.unresolved import SuspenseTable
from tests.support.adjustments import adjust
from tests.support.stored_jobs import held_job

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
DEAD = DeadLetter(reason=DeadReason.UNKNOWN, message="over")


@pytest.fixture
def table(engine: AsyncEngine) -> JobTable:
    return JobTable(engine, holder="w", lease_seconds=30)


@pytest.fixture
def ledger(engine: AsyncEngine) -> LedgerTable:
    return LedgerTable(engine)


async def open_attempt(table: JobTable, ledger: LedgerTable, scope: str) -> tuple[LeasedJob, OpenedAttempt]:
    holder = await held_job(table)
    attempt = opened(holder.lease, epoch=await ledger.epoch())
    counter = BudgetCounter(scope=scope, window="2026", limit_nano_usd=NanoUsd(10**9))
    attempt = replace(attempt, grant=replace(attempt.grant, counters=(counter,)))
    assert await table.open([attempt]) == [True]
    return holder, attempt


async def balance(ledger: LedgerTable, scope: str) -> tuple[int, int]:
    found = {one.scope: one for one in (await ledger.rebuild(LONG_AGO)).balances}
    return (found[scope].settled_nano_usd, found[scope].reserved_nano_usd) if scope in found else (0, 0)


async def spent(engine: AsyncEngine, job_id: str) -> int:
    async with engine.connect() as connection:
        query = text("SELECT spent_nano_usd FROM jobs WHERE id = :id")
        return int((await connection.execute(query, {"id": job_id})).scalar_one())


async def suspended(table: JobTable, ledger: LedgerTable, scope: str) -> tuple[LeasedJob, OpenedAttempt]:
    holder, attempt = await open_attempt(table, ledger, scope)
    end = closed(attempt, cost=500, state=AttemptState.SUSPENSE)
    await table.record([Record(lease=holder.lease, closed=end, decision=DEAD)])
    return holder, attempt


async def test_an_open_attempt_is_reserved_and_a_posted_one_is_settled(table: JobTable, ledger: LedgerTable) -> None:
    holder, attempt = await open_attempt(table, ledger, "t:one")
    before = await balance(ledger, "t:one")

    await table.record([Record(lease=holder.lease, closed=closed(attempt, cost=42), decision=DEAD)])

    assert (before, await balance(ledger, "t:one")) == ((0, 500), (42, 0))


async def test_a_grant_of_a_passed_epoch_is_not_opened(table: JobTable, ledger: LedgerTable) -> None:
    holder = await held_job(table)
    stale = opened(holder.lease, epoch=await ledger.epoch())

    recorded = await ledger.rebuild(LONG_AGO)

    assert await table.open([stale]) == [False]
    assert await table.open([opened(holder.lease, epoch=recorded.epoch)]) == [True]


async def test_raising_the_epoch_waits_for_opens_under_way(engine: AsyncEngine, ledger: LedgerTable) -> None:
    async with engine.begin() as opening:
        await opening.execute(text("SELECT epoch FROM ledger_epoch FOR SHARE"))
        rebuild = asyncio.create_task(ledger.rebuild(LONG_AGO))
        waited = False
        for _ in range(2_000):
            waiting = await opening.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))
            waited = bool(waiting.scalar_one())
            if waited:
                break
        assert waited
        assert not rebuild.done()

    assert (await rebuild).epoch == await ledger.epoch()


async def test_a_rebuild_carries_what_is_open_with_its_grant(table: JobTable, ledger: LedgerTable) -> None:
    _, attempt = await open_attempt(table, ledger, "t:carried")

    recorded = await ledger.rebuild(LONG_AGO)

    [carried] = [one for one in recorded.unsettled if one.attempt_id == attempt.id]
    assert (carried.state, carried.grant) == (AttemptState.OPENED, attempt.grant)
    assert [b.reserved_nano_usd for b in recorded.balances if b.scope == "t:carried"] == [500]


async def test_a_suspense_is_posted_once_by_whoever_comes_first(
    engine: AsyncEngine, table: JobTable, ledger: LedgerTable
) -> None:
    holder, attempt = await suspended(table, ledger, "t:suspense")
    assert await balance(ledger, "t:suspense") == (0, 500)

    answers = await asyncio.gather(*(ledger.post(attempt.id, NanoUsd(77)) for _ in range(4)))

    assert sorted(answers) == [False, False, False, True]
    assert await balance(ledger, "t:suspense") == (77, 0)
    assert await spent(engine, holder.job.id) == 77


async def test_a_suspense_that_was_not_billed_costs_nothing(
    engine: AsyncEngine, table: JobTable, ledger: LedgerTable
) -> None:
    _, attempt = await suspended(table, ledger, "t:free")

    assert await SuspenseTable(engine).resolve(attempt.id, None) is not None

    assert await balance(ledger, "t:free") == (0, 0)


async def test_an_unknown_outcome_is_presumed_at_its_reservation_then_adjusted(
    engine: AsyncEngine, table: JobTable, ledger: LedgerTable
) -> None:
    holder, attempt = await suspended(table, ledger, "t:presumed")
    [unknown] = [one for one in await ledger.suspense() if one.attempt_id == attempt.id]

    assert await ledger.presume(unknown)
    charges = [await adjust(engine, attempt.id, nano_usd) for nano_usd in (-100, -50)]

    assert [charge and charge.booked_nano_usd for charge in charges] == [400, 350]
    assert await balance(ledger, "t:presumed") == (350, 0)
    assert await spent(engine, holder.job.id) == 350


async def test_an_adjustment_is_booked_once_by_its_key(
    engine: AsyncEngine, table: JobTable, ledger: LedgerTable
) -> None:
    holder, attempt = await suspended(table, ledger, "t:adjusted-once")
    assert await ledger.post(attempt.id, NanoUsd(77))
    invoice = Adjustment(key="inv-1", attempt_id=attempt.id, nano_usd=NanoUsd(-70), note="an invoice")

    charges = await asyncio.gather(*(AdjustmentTable(engine).book(invoice) for _ in range(4)))
    other = await AdjustmentTable(engine).book(replace(invoice, nano_usd=NanoUsd(5)))

    found = [charge and (charge.booked_nano_usd, charge.adjustment) for charge in (*charges, other)]
    assert found == [(7, invoice)] * 5
    assert await balance(ledger, "t:adjusted-once") == (7, 0)
    assert await spent(engine, holder.job.id) == 7


async def test_an_adjustment_takes_away_no_more_than_was_booked(
    engine: AsyncEngine, table: JobTable, ledger: LedgerTable
) -> None:
    _, attempt = await suspended(table, ledger, "t:adjusted-below")
    assert await ledger.post(attempt.id, NanoUsd(77))

    below = await adjust(engine, attempt.id, -78)

    assert below is not None
    assert (below.booked_nano_usd, below.adjustment) == (77, None)
    assert await balance(ledger, "t:adjusted-below") == (77, 0)


async def test_a_released_charge_can_be_adjusted_and_an_unresolved_one_cannot(
    engine: AsyncEngine, table: JobTable, ledger: LedgerTable
) -> None:
    _, attempt = await suspended(table, ledger, "t:adjusted-late")

    unresolved = await adjust(engine, attempt.id, 9)
    assert await SuspenseTable(engine).resolve(attempt.id, None) is not None
    released = await adjust(engine, attempt.id, 9)

    assert unresolved is not None
    assert (unresolved.state, unresolved.adjustment) == (AttemptState.SUSPENSE, None)
    assert released is not None
    assert (released.state, released.booked_nano_usd) == (AttemptState.RELEASED, 9)
    assert await balance(ledger, "t:adjusted-late") == (9, 0)
    assert await adjust(engine, AttemptId("att_nobody"), 1) is None


async def test_a_cancelled_jobs_open_attempt_goes_to_suspense_in_the_end(table: JobTable, ledger: LedgerTable) -> None:
    holder, attempt = await open_attempt(table, ledger, "t:orphan")
    _, running = await open_attempt(table, ledger, "t:running")
    await table.cancel(holder.job.id, None)

    await ledger.suspend_orphans(older_seconds=-60)

    assert {one.attempt_id for one in await ledger.suspense(older_seconds=-60)} & {attempt.id, running.id} == {
        attempt.id
    }
