"""Sealed sums: each entry counts once, however late it is committed and wherever the seal stands."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.admission import BudgetCounter
from schemas.attempt import OpenedAttempt
from schemas.decision import DeadLetter, DeadReason
from schemas.money import NanoUsd
from storage.jobs import JobTable, Record
from storage.ledger import LedgerTable
from storage.seals import KEPT_DAYS, SealTable
from tests.support.stored_jobs import closed, new_job, opened

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
OVER = DeadLetter(reason=DeadReason.UNKNOWN, message="over")
AT_REST = "SELECT sealed_to = marked_to AND marked_to = (SELECT COALESCE(max(id), 0) FROM ledger) FROM ledger_seal"
BOOK = """
INSERT INTO ledger (attempt_id, kind, seq, nano_usd, tenant_id, account, model, at)
VALUES (:id, 'adjust', :seq, :nano_usd, 'default', 'a', 'm', clock_timestamp())
"""


@pytest.fixture
async def seals(engine: AsyncEngine) -> SealTable:
    """At rest: everything that is booked is sealed."""
    table = SealTable(engine)
    async with engine.connect() as connection:
        at_rest = text(AT_REST)
        while not (await connection.execute(at_rest)).scalar_one():
            await table.seal()
    return table


async def posted(engine: AsyncEngine, window: str, *, cost: int = 42) -> OpenedAttempt:
    """An attempt of one counter in this window, with its cost booked."""
    table = JobTable(engine, holder="w", lease_seconds=30)
    job = new_job()
    await table.insert([job])
    [held] = await table.hold([(job.id, 0)])
    assert held is not None
    attempt = opened(held.lease)
    counter = BudgetCounter(scope="global", window=window, limit_nano_usd=NanoUsd(10**9))
    attempt = replace(attempt, grant=replace(attempt.grant, counters=(counter,)))
    assert await table.open([attempt]) == [True]
    await table.record([Record(lease=held.lease, closed=closed(attempt, cost=cost), decision=OVER)])
    return attempt


async def settled(engine: AsyncEngine, window: str) -> tuple[int, int]:
    """By the sums of a rebuild and by those of an audit."""
    ledger = LedgerTable(engine)
    balances = {one.window: one.settled_nano_usd for one in await ledger.balances(LONG_AGO)}
    books = await ledger.audited([], windows=[window], before=datetime.now(UTC) + timedelta(minutes=1))
    [one] = books.sums
    return balances[window], one.settled_nano_usd


async def test_a_balance_is_the_same_before_and_after_the_mark_and_the_seal(
    engine: AsyncEngine, seals: SealTable
) -> None:
    attempt = await posted(engine, "w-same")
    seen = [await settled(engine, "w-same")]
    for _ in range(3):
        await seals.seal()
        seen.append(await settled(engine, "w-same"))
    await LedgerTable(engine).adjust(attempt.id, -2)

    assert seen == [(42, 42)] * 4
    assert await settled(engine, "w-same") == (40, 40)


async def test_what_is_sealed_is_read_from_the_sums_alone(engine: AsyncEngine, seals: SealTable) -> None:
    await posted(engine, "w-sums")
    assert await seals.seal() == 0
    assert await seals.seal() > 0

    async with engine.begin() as connection:
        await connection.execute(text("UPDATE sealed_sums SET nano_usd = 7 WHERE time_window = 'w-sums'"))

    assert await settled(engine, "w-sums") == (7, 7)


async def test_an_entry_with_a_lower_id_that_is_committed_later_is_waited_for(
    engine: AsyncEngine, seals: SealTable
) -> None:
    attempt = await posted(engine, "w-late", cost=1)
    async with engine.begin() as slow:
        await slow.execute(text(BOOK), {"id": attempt.id, "seq": 0, "nano_usd": 10})
        await LedgerTable(engine).adjust((await posted(engine, "w-late", cost=100)).id, 1_000)
        assert [await seals.seal() for _ in range(4)] == [0] * 4
    assert await seals.seal() > 0

    assert await settled(engine, "w-late") == (1_111, 1_111)


async def test_seals_side_by_side_count_each_entry_once(engine: AsyncEngine, seals: SealTable) -> None:
    for _ in range(5):
        await posted(engine, "w-many", cost=3)
    for _ in range(4):
        await asyncio.gather(*(seals.seal() for _ in range(6)))

    assert await settled(engine, "w-many") == (15, 15)


async def test_sums_of_windows_long_past_are_dropped(engine: AsyncEngine, seals: SealTable) -> None:
    await posted(engine, "w-past")
    assert await seals.seal() == 0
    assert await seals.seal() > 0
    async with engine.begin() as connection:
        past = text(
            "UPDATE sealed_sums SET last_at = now() - make_interval(days => :days) WHERE time_window = 'w-past'"
        )
        await connection.execute(past, {"days": KEPT_DAYS + 1})

    await seals.seal()

    async with engine.connect() as connection:
        left = await connection.execute(text("SELECT count(*) FROM sealed_sums WHERE time_window = 'w-past'"))
        assert left.scalar_one() == 0
