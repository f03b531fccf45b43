"""Money of users and prompts is their tenant's, also where a version that did not name it has written it down."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import closed, new_job, opened
from schemas.admission import BudgetCounter
from schemas.attempt import OpenedAttempt
from schemas.decision import DeadLetter, DeadReason
from schemas.ids import KeyId, TenantId
from schemas.job import LeasedJob
from schemas.money import NanoUsd
from storage.database.schema import migrate
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.ledger.budget_alerts import ThresholdTable
from storage.ledger.ledger import LedgerTable
from storage.tenancy.keys import KeyTable
from tests.integration.conftest import empty_database
from tests.integration.storage.ledger.test_checkpoints import seal_all

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
OVER = DeadLetter(reason=DeadReason.UNKNOWN, message="over")
ATTEMPT = """
INSERT INTO tenants (id) VALUES ('a') ON CONFLICT DO NOTHING;
INSERT INTO jobs (id, tenant_id, lane, model, endpoint, state, expires_at, max_tries, max_reprompts, request_digest)
VALUES ('j', 'a', 'low', 'm', '/', 'running', now(), 1, 1, 'd');
INSERT INTO attempts (id, job_id, fence, account, model, epoch, stamp, counters, reserved_tokens, reserved_nano_usd,
    price, state, opened_at)
VALUES ('t', 'j', 1, 'x', 'm', 1, 's', '[]', 1, 1, '{}', 'opened', now())
"""
PASSED = """
INSERT INTO budget_thresholds (scope, time_window, limit_nano_usd, percent, settled_nano_usd)
VALUES ('user:alone', 'w', 100, 50, 60), ('user:both', 'w', 100, 50, 60);
INSERT INTO ledger (attempt_id, kind, seq, nano_usd, tenant_id, end_user, account, model, at)
VALUES ('1', 'post', 0, 60, 'a', 'alone', 'x', 'm', now()), ('2', 'post', 0, 30, 'a', 'both', 'x', 'm', now()),
    ('3', 'post', 0, 30, 'b', 'both', 'x', 'm', now())
"""


@pytest.fixture
def empty_database_url(database_url: str) -> Iterator[str]:
    with empty_database(database_url) as url:
        yield url


async def opened_under(
    engine: AsyncEngine, whose: tuple[str, str], counted: tuple[str, str]
) -> tuple[LeasedJob, OpenedAttempt]:
    """An attempt of this tenant's user whose one counter has this scope and window, as whichever version wrote it."""
    (tenant, user), (scope, window) = whose, counted
    await KeyTable(engine).create(KeyId(f"key_{uuid.uuid4().hex}"), uuid.uuid4().hex, TenantId(tenant), ["submit"])
    table, job = (
        JobTable(engine, holder="w", lease_seconds=30),
        new_job(tenant_id=TenantId(tenant), user=user, prompt=user),
    )
    await table.insert([job])
    [held] = await table.hold([(job.id, 0)])
    assert held is not None
    attempt = opened(held.lease, epoch=await LedgerTable(engine).epoch())
    counter = BudgetCounter(scope=scope, window=window, limit_nano_usd=NanoUsd(10**9))
    attempt = replace(attempt, grant=replace(attempt.grant, counters=(counter,)))
    assert await table.open([attempt]) == [True]
    return held, attempt


async def spend(engine: AsyncEngine, whose: tuple[str, str], counter: tuple[str, str], cost: int) -> None:
    held, attempt = await opened_under(engine, whose, counter)
    table = JobTable(engine, holder="w", lease_seconds=30)
    await table.record([Record(lease=held.lease, closed=closed(attempt, cost=cost), decision=OVER)])


async def settled(engine: AsyncEngine, window: str) -> dict[str, int]:
    """By the sums of a rebuild, which are those of an audit and, for what is young, of the burn."""
    ledger = LedgerTable(engine)
    balances = (await ledger.rebuild(LONG_AGO)).balances
    rebuilt = {one.scope: one.settled_nano_usd for one in balances if one.window == window}
    soon = datetime.now(UTC) + timedelta(minutes=1)
    recorded = await ledger.audited([], windows=[window], since=LONG_AGO, before=soon)
    burn = await ThresholdTable(engine).burn(3600.0)
    assert {one.scope: one.settled_nano_usd for one in recorded.sums} == rebuilt
    assert {scope: spent for (scope, named), spent in burn.items() if named == window} == rebuilt
    return rebuilt


@pytest.mark.parametrize("kind", ["user", "prompt"])
async def test_spend_under_a_bare_name_is_its_tenants_sealed_or_not(engine: AsyncEngine, kind: str) -> None:
    window = f"w-bare-{kind}"
    await spend(engine, ("a", "carol"), (f"{kind}:carol", window), 5)
    await spend(engine, ("a", "carol"), (f"{kind}:a/carol", window), 7)
    await spend(engine, ("b", "carol"), (f"{kind}:carol", window), 11)
    await spend(engine, ("b", "a/carol"), (f"{kind}:a/carol", window), 13)

    before = await settled(engine, window)
    await seal_all(engine)

    assert before == {f"{kind}:a/carol": 12, f"{kind}:b/carol": 11, f"{kind}:b/a/carol": 13}
    assert await settled(engine, window) == before


async def test_a_reservation_stays_under_the_name_of_its_stamp(engine: AsyncEngine) -> None:
    await opened_under(engine, ("a", "carol"), ("user:carol", "w-open"))

    rebuilt = await LedgerTable(engine).rebuild(LONG_AGO)

    found = [(one.scope, one.reserved_nano_usd) for one in rebuilt.balances if one.window == "w-open"]
    assert found == [("user:carol", 500)]


async def test_the_first_rebuild_of_this_version_carries_the_counters_over(engine: AsyncEngine) -> None:
    ledger = LedgerTable(engine)
    async with engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE tenant_ledger_seal SET counters_carried = false")

    before = await ledger.counters_carried()
    await ledger.rebuild(LONG_AGO)

    assert (before, await ledger.counters_carried()) == (False, True)


@pytest.mark.parametrize(("before", "carried"), [(ATTEMPT, False), ("SELECT 1", True)])
def test_an_upgrade_asks_for_a_rebuild_where_there_were_attempts(
    empty_database_url: str, before: str, *, carried: bool
) -> None:
    migrate(empty_database_url, to="0013")
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(before)
    migrate(empty_database_url, to="0014")

    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT counters_carried FROM tenant_ledger_seal").fetchone() == (carried,)


def test_a_threshold_goes_to_the_one_tenant_that_has_the_name(empty_database_url: str) -> None:
    migrate(empty_database_url, to="0013")
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(PASSED)
    migrate(empty_database_url, to="0014")

    with psycopg.connect(empty_database_url) as connection:
        rows = connection.execute("SELECT scope, delivered_at IS NULL FROM budget_thresholds ORDER BY 1").fetchall()

    assert rows == [("user:a/alone", False), ("user:alone", True), ("user:both", True)]
