"""Suspense against a real Postgres: paged, counted, and resolved by one word, whoever else speaks at that moment."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import closed, new_job, opened
from schemas.attempt import AttemptState, OpenedAttempt
from schemas.decision import DeadLetter, DeadReason, RetryAt
from schemas.job import Target
from schemas.money import NanoUsd
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.ledger.ledger import LedgerTable
from storage.ledger.unresolved import LEFT_BEHIND, OLDEST, TOTALS, Span, SuspenseTable

DEAD = DeadLetter(reason=DeadReason.UNKNOWN, message="over")


@pytest.fixture
def suspense(engine: AsyncEngine) -> SuspenseTable:
    return SuspenseTable(engine)


async def lost(engine: AsyncEngine, account: str, *, at_rest: bool = True) -> OpenedAttempt:
    """An attempt in suspense at this account."""
    table, job = JobTable(engine, holder="w", lease_seconds=30), new_job()
    await table.insert([job])
    [held] = await table.hold([(job.id, 0)])
    assert held is not None
    attempt = opened(held.lease, epoch=await LedgerTable(engine).epoch())
    grant = replace(attempt.grant, target=Target(account=account, model="m"))
    attempt = replace(attempt, target=Target(account=account, model="m"), grant=grant)
    assert await table.open([attempt]) == [True]
    end = replace(closed(attempt, cost=500, state=AttemptState.SUSPENSE), outcome="ambiguous")
    decision = DEAD if at_rest else RetryAt(at=job.expires_at, reason="ambiguous")
    assert await table.record([Record(lease=held.lease, closed=end, decision=decision)]) == [True]
    return attempt


async def entries(engine: AsyncEngine, attempt_id: str) -> list[tuple[str, int]]:
    async with engine.connect() as connection:
        query = text("SELECT kind, nano_usd FROM ledger WHERE attempt_id = :id")
        return [(row.kind, row.nano_usd) for row in await connection.execute(query, {"id": attempt_id})]


async def test_pages_hold_each_once_and_totals_count_by_account(engine: AsyncEngine, suspense: SuspenseTable) -> None:
    made = [(await lost(engine, "paged")).id for _ in range(5)]

    seen = [view.id for view in await suspense.oldest(most=1)]
    while page := await suspense.oldest(after=seen[-1], most=2):
        seen += [view.id for view in page]

    assert [attempt_id for attempt_id in seen if attempt_id in made] == made
    assert len(seen) == len(set(seen))
    [total] = [total for total in await suspense.totals() if total.account == "paged"]
    assert (total.attempts, total.nano_usd) == (5, 2_500)


async def test_one_of_many_words_at_once_is_booked(engine: AsyncEngine, suspense: SuspenseTable) -> None:
    attempt = await lost(engine, "words")
    ledger = LedgerTable(engine)

    said = [suspense.resolve(attempt.id, NanoUsd(n)) for n in range(1, 4)]
    standings, posted = await asyncio.gather(asyncio.gather(*said), ledger.post(attempt.id, NanoUsd(9)))

    [(kind, booked)] = await entries(engine, attempt.id)
    assert {(standing.outcome, standing.cost_nano_usd) for standing in standings if standing} == {(kind, booked)}
    assert posted is (kind == "post")


EVER = [Span(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))]


async def test_only_what_no_job_will_ask_for_is_left_behind(engine: AsyncEngine, suspense: SuspenseTable) -> None:
    rested = await lost(engine, "kept")
    await lost(engine, "kept", at_rest=False)
    await lost(engine, "forgetful")

    [left] = await suspense.left_behind("kept", EVER)

    assert (left.id, left.grant, left.price) == (rested.id, rested.grant, rested.price)


async def test_attempts_left_behind_in_spans_are_paged_while_some_are_resolved(
    engine: AsyncEngine, suspense: SuspenseTable
) -> None:
    made = [(await lost(engine, "spanned")).id for _ in range(7)]
    since = {view.id: view.since_at for view in await suspense.oldest(most=1_000)}
    moment = timedelta(microseconds=1)
    spans = [Span(since[made[1]] - moment, since[made[3]]), Span(since[made[4]], since[made[6]])]

    seen = page = await suspense.left_behind("spanned", spans, most=2)
    while page:
        await suspense.resolve(page[-1].id, None)
        page = await suspense.left_behind("spanned", spans, behind=page[-1], most=2)
        seen += page

    assert [attempt.id for attempt in seen] == [*made[1:4], *made[5:7]]


CROWD = """
INSERT INTO attempts (id, job_id, fence, account, model, epoch, stamp, counters, reserved_tokens, reserved_nano_usd,
    price, state, opened_at, closed_at)
SELECT 'crowd' || n, :job_id, 1, 'openai', 'm', 1, 's', '[]', 1, 1, '{}',
    CASE WHEN n % 1000 = 0 THEN 'suspense' ELSE 'posted' END, now(), now()
FROM generate_series(1, 20000) n
"""


@pytest.mark.parametrize("query", [OLDEST, TOTALS, LEFT_BEHIND])
async def test_suspense_is_found_without_a_scan_of_the_attempts(engine: AsyncEngine, query: str) -> None:
    job = new_job()
    await JobTable(engine, holder="w", lease_seconds=30).insert([job])

    async with engine.begin() as connection:
        await connection.execute(text(CROWD), {"job_id": job.id})
        await connection.execute(text("ANALYZE attempts"))
        page = {"after": None, "after_at": None, "behind_at": None, "behind_id": None, "most": 50}
        spans = {"afters": [span.after for span in EVER], "untils": [span.until for span in EVER]}
        given = {"account": "openai"} | page | spans
        plan = await connection.execute(text(f"EXPLAIN {query}"), given)
        lines = [str(line) for line in plan.scalars()]
        await connection.rollback()

    assert not [line for line in lines if "Seq Scan on attempts" in line], lines
