"""Sealed sums: each entry counts once, however late it is committed and wherever the seal stands."""

import asyncio
import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import closed, new_job, opened
from schemas.admission import BudgetCounter
from schemas.attempt import OpenedAttempt
from schemas.decision import DeadLetter, DeadReason
from schemas.money import NanoUsd
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.ledger.checkpoints import KEPT_DAYS, SealTable
from storage.ledger.ledger import LedgerTable
from tests.support.adjustments import adjust

WAIT_SECONDS = 20.0
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
OVER = DeadLetter(reason=DeadReason.UNKNOWN, message="over")
AT_REST = (
    "SELECT sealed_to = marked_to AND marked_to = (SELECT COALESCE(max(id), 0) FROM ledger) FROM tenant_ledger_seal"
)
BOOK = """
INSERT INTO ledger (attempt_id, kind, seq, nano_usd, tenant_id, account, model, at)
VALUES (:id, 'adjust', :seq, :nano_usd, 'default', 'a', 'm', clock_timestamp())
"""


@pytest.fixture
async def seals(engine: AsyncEngine) -> SealTable:
    """At rest: everything that is booked is sealed."""
    await seal_all(engine)
    return SealTable(engine)


async def seal_all(engine: AsyncEngine) -> None:
    """Until everything is sealed; transactions of others, as of autovacuum, may be under way for a while."""
    async with asyncio.timeout(WAIT_SECONDS), engine.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        while not (await autocommit.execute(text(AT_REST))).scalar_one():
            await SealTable(engine).seal()


async def posted(engine: AsyncEngine, window: str, *, cost: int = 42, scope: str = "global") -> OpenedAttempt:
    """An attempt of one counter in this window, with its cost booked."""
    table = JobTable(engine, holder="w", lease_seconds=30)
    job = new_job()
    await table.insert([job])
    [held] = await table.hold([(job.id, 0)])
    assert held is not None
    attempt = opened(held.lease, epoch=await LedgerTable(engine).epoch())
    counter = BudgetCounter(scope=scope, window=window, limit_nano_usd=NanoUsd(10**9))
    attempt = replace(attempt, grant=replace(attempt.grant, counters=(counter,)))
    assert await table.open([attempt]) == [True]
    await table.record([Record(lease=held.lease, closed=closed(attempt, cost=cost), decision=OVER)])
    return attempt


async def settled(engine: AsyncEngine, window: str) -> tuple[int, int]:
    """By the sums of a rebuild and by those of an audit."""
    ledger = LedgerTable(engine)
    balances = {one.window: one.settled_nano_usd for one in (await ledger.rebuild(LONG_AGO)).balances}
    soon = datetime.now(UTC) + timedelta(minutes=1)
    recorded = await ledger.audited([], windows=[window], since=LONG_AGO, before=soon)
    [one] = recorded.sums
    return balances[window], one.settled_nano_usd


async def test_a_balance_is_the_same_before_and_after_the_mark_and_the_seal(
    engine: AsyncEngine, seals: SealTable
) -> None:
    attempt = await posted(engine, "w-same")
    seen = [await settled(engine, "w-same")]
    for _ in range(3):
        await seals.seal()
        seen.append(await settled(engine, "w-same"))
    await adjust(engine, attempt.id, -2)

    assert seen == [(42, 42)] * 4
    assert await settled(engine, "w-same") == (40, 40)


async def test_what_is_sealed_is_read_from_the_sums_alone(engine: AsyncEngine, seals: SealTable) -> None:
    await posted(engine, "w-sums")
    await seal_all(engine)

    async with engine.begin() as connection:
        await connection.execute(text("UPDATE tenant_sealed_sums SET nano_usd = 7 WHERE time_window = 'w-sums'"))

    assert await settled(engine, "w-sums") == (7, 7)


async def test_an_entry_with_a_lower_id_that_is_committed_later_is_waited_for(
    engine: AsyncEngine, seals: SealTable
) -> None:
    attempt = await posted(engine, "w-late", cost=1)
    await seal_all(engine)
    async with engine.begin() as slow:
        await slow.execute(text(BOOK), {"id": attempt.id, "seq": 0, "nano_usd": 10})
        await adjust(engine, (await posted(engine, "w-late", cost=100)).id, 1_000)
        assert [await seals.seal() for _ in range(4)] == [0] * 4
    await seal_all(engine)

    assert await settled(engine, "w-late") == (1_111, 1_111)


async def test_one_that_began_later_and_drew_its_id_first_is_waited_for_too(
    engine: AsyncEngine, seals: SealTable
) -> None:
    first, second = await posted(engine, "w-turned", cost=1), await posted(engine, "w-turned", cost=2)
    await seal_all(engine)
    async with engine.connect() as quick, engine.begin() as slow:
        await quick.execute(text("SELECT pg_current_xact_id()"))
        await slow.execute(text("SELECT pg_current_xact_id()"))
        await slow.execute(text(BOOK), {"id": first.id, "seq": 0, "nano_usd": 10})
        await quick.execute(text(BOOK), {"id": second.id, "seq": 0, "nano_usd": 100})
        await quick.commit()
        assert [await seals.seal() for _ in range(4)] == [0] * 4
    await seal_all(engine)

    assert await settled(engine, "w-turned") == (113, 113)


async def test_a_mark_of_the_cluster_that_was_dumped_is_set_anew(engine: AsyncEngine, seals: SealTable) -> None:
    await posted(engine, "w-restored")
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE tenant_ledger_seal SET marked_before = '1000000000000', marked_to = 1000000000")
        )

    await seal_all(engine)

    assert await settled(engine, "w-restored") == (42, 42)


async def test_seals_side_by_side_count_each_entry_once(engine: AsyncEngine, seals: SealTable) -> None:
    for _ in range(5):
        await posted(engine, "w-many", cost=3)
    for _ in range(4):
        await asyncio.gather(*(seals.seal() for _ in range(6)))
    await seal_all(engine)

    assert await settled(engine, "w-many") == (15, 15)


async def test_sums_of_windows_long_past_are_dropped(engine: AsyncEngine, seals: SealTable) -> None:
    await posted(engine, "w-past")
    await seal_all(engine)
    async with engine.begin() as connection:
        past = text(
            "UPDATE tenant_sealed_sums SET last_at = now() - make_interval(days => :days) WHERE time_window = 'w-past'"
        )
        await connection.execute(past, {"days": KEPT_DAYS + 1})

    await seals.seal()

    async with engine.connect() as connection:
        left = await connection.execute(text("SELECT count(*) FROM tenant_sealed_sums WHERE time_window = 'w-past'"))
        assert left.scalar_one() == 0


async def test_a_scope_that_no_index_holds_is_sealed_under_its_full_name(engine: AsyncEngine, seals: SealTable) -> None:
    long = "user:" + "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(64))
    await posted(engine, "w-long", scope=long)
    await posted(engine, "w-long-2")

    await seal_all(engine)

    assert await settled(engine, "w-long") == (42, 42)
    assert await settled(engine, "w-long-2") == (42, 42)
    rebuilt = await LedgerTable(engine).rebuild(LONG_AGO)
    [balance] = [one for one in rebuilt.balances if one.window == "w-long"]
    assert balance.scope == long


async def test_an_entry_that_cannot_be_added_up_holds_up_no_other(engine: AsyncEngine, seals: SealTable) -> None:
    """Two of the largest costs that a column holds, in one window: their sum is in no column."""
    await posted(engine, "w-before")
    odd = await posted(engine, "w-odd", cost=2**63 - 1)
    async with engine.begin() as connection:
        await connection.execute(text(BOOK), {"id": odd.id, "seq": 0, "nano_usd": 2**63 - 1})
    await posted(engine, "w-after")

    await seal_all(engine)

    assert await settled(engine, "w-before") == (42, 42)
    assert await settled(engine, "w-after") == (42, 42)
    assert (await settled(engine, "w-odd"))[0] == 2**63 - 1


async def test_seals_side_by_side_skip_only_the_entry_that_fails(engine: AsyncEngine, seals: SealTable) -> None:
    odd = await posted(engine, "w-odd-many", cost=2**63 - 1)
    async with engine.begin() as connection:
        await connection.execute(text(BOOK), {"id": odd.id, "seq": 0, "nano_usd": 2**63 - 1})
    for _ in range(12):
        await posted(engine, "w-behind", cost=3)

    async with asyncio.timeout(WAIT_SECONDS):
        while not await is_at_rest(engine):
            await asyncio.gather(*(SealTable(engine).seal() for _ in range(6)))

    assert await settled(engine, "w-behind") == (36, 36)


async def is_at_rest(engine: AsyncEngine) -> bool:
    async with engine.connect() as connection:
        return bool((await connection.execute(text(AT_REST))).scalar_one())
