"""Dispatch's statements against a real Postgres: fair among tenants, bounded, and never a scan of the backlog."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import new_job
from schemas.ids import BatchId, JobId, TenantId
from schemas.job import NewJob
from schemas.lanes import Lane
from schemas.tenants import ShareCapacity
from storage.database.engine import open_engine
from storage.jobs import claims
from storage.jobs.writes import JobTable
from storage.queue import backlog, controls, urgent
from storage.queue import control_sweeps as sweeps
from storage.queue import early_wake as parked
from storage.queue import poison_isolation as suspects
from storage.queue import transitions as due
from storage.queue.backlog import BacklogTable
from storage.tenancy import usage
from tests.integration.conftest import fresh_database

HEAVY = {"model": "m", "messages": [], "max_tokens": 4_000}
LIGHT = {"model": "m", "messages": [], "max_tokens": 1_000}


async def tenants(engine: AsyncEngine, *names: str) -> None:
    async with engine.begin() as connection:
        for name in names:
            await connection.execute(text("INSERT INTO tenants (id) VALUES (:id) ON CONFLICT DO NOTHING"), {"id": name})


async def stored(engine: AsyncEngine, count: int, **facts: object) -> list[NewJob]:
    jobs = [new_job(**({"lane": Lane.LOW} | facts)) for _ in range(count)]
    await JobTable(engine, holder="w", lease_seconds=30).insert(jobs)
    return jobs


def owners(taken: Sequence[tuple[JobId, int]], **named: Sequence[NewJob]) -> Counter[str]:
    owner = {job.id: name for name, jobs in named.items() for job in jobs}
    return Counter(owner[job_id] for job_id, _ in taken)


async def test_dispatch_takes_a_flow_and_each_job_once(engine: AsyncEngine) -> None:
    jobs = await stored(engine, 6, model="flow-a")
    table = BacklogTable(engine)

    first = await table.take(Lane.LOW, "flow-a", 4)
    flows = {(flow.lane, flow.model): flow.run_ahead for flow in await table.flows()}
    rest = await table.take(Lane.LOW, "flow-a", 4)

    assert flows[Lane.LOW, "flow-a"] == 4
    assert len(first) == 4
    assert {job_id for job_id, _ in first + rest} == {job.id for job in jobs}


async def test_two_leaders_at_once_take_different_jobs(engine: AsyncEngine) -> None:
    await stored(engine, 200, model="both")

    taken = await asyncio.gather(*(BacklogTable(engine).take(Lane.LOW, "both", 100) for _ in range(4)))
    ids = [job_id for part in taken for job_id, _ in part]

    assert len(ids) == len(set(ids)) >= 100


async def test_of_a_tenant_no_more_is_taken_than_its_capacity(engine: AsyncEngine) -> None:
    await tenants(engine, "ample")
    greedy = await stored(engine, 30, model="capacities", batch_id=None)
    for batch in ("batch_c", "batch_d"):
        greedy += await stored(engine, 30, model="capacities", batch_id=BatchId(batch))
    other = await stored(engine, 5, model="capacities", tenant_id=TenantId("ample"))

    taken = await BacklogTable(engine).take(
        Lane.LOW,
        "capacities",
        100,
        capacities={greedy[0].tenant_id: ShareCapacity(jobs=7), TenantId("absent"): ShareCapacity(jobs=1)},
    )

    assert owners(taken, greedy=greedy, other=other) == {"greedy": 7, "other": 5}


async def test_tokens_of_a_capacity_end_with_the_job_that_passes_them(engine: AsyncEngine) -> None:
    [heavy, *_] = jobs = await stored(engine, 10, model="token-capacities", body=HEAVY)
    capacity = ShareCapacity(tokens=9_000)

    taken = await BacklogTable(engine).take(Lane.LOW, "token-capacities", 10, capacities={heavy.tenant_id: capacity})

    assert owners(taken, jobs=jobs) == {"jobs": 3}


@pytest.mark.parametrize("capacity", [ShareCapacity(jobs=0), ShareCapacity(tokens=0)], ids=["jobs", "tokens"])
async def test_a_tenant_without_capacity_takes_no_place_of_others(engine: AsyncEngine, capacity: ShareCapacity) -> None:
    await tenants(engine, "alone")
    model = f"no-capacity-{capacity.jobs}"
    [full, *_] = await stored(engine, 20, model=model)
    alone = await stored(engine, 20, model=model, tenant_id=TenantId("alone"))

    taken = await BacklogTable(engine).take(
        Lane.LOW, model, 20, capacities={full.tenant_id: capacity}, most_looked_at=20
    )

    assert owners(taken, alone=alone) == {"alone": 20}


async def test_tenants_with_jobs_to_publish_are_listed_with_what_is_published(engine: AsyncEngine) -> None:
    await tenants(engine, "listed", "idle")
    await stored(engine, 6, model="listed-a", tenant_id=TenantId("listed"), body=LIGHT)
    await stored(engine, 3, model="listed-b", tenant_id=TenantId("listed"), body=LIGHT)
    await stored(engine, 1, model="listed-c", tenant_id=TenantId("idle"))
    table = BacklogTable(engine)
    await table.take(Lane.LOW, "listed-a", 2)
    await table.take(Lane.LOW, "listed-b", 3)

    [of_first] = await table.tenants(Lane.LOW, "listed-a")

    assert (of_first.tenant_id, of_first.jobs) == ("listed", 5)
    assert 5 * 1_000 <= of_first.tokens <= 5 * 1_100
    assert await table.tenants(Lane.LOW, "listed-b") == []


async def test_a_tenants_nearest_deadline_comes_first_and_then_its_oldest_job(engine: AsyncEngine) -> None:
    soon, late = (datetime.now(UTC) + timedelta(hours=hours) for hours in (1, 2))
    [late_job] = await stored(engine, 1, model="deadlines", expires_at=late)
    [oldest] = await stored(engine, 1, model="deadlines", expires_at=soon, batch_id=BatchId("batch_b"))
    [newest] = await stored(engine, 1, model="deadlines", expires_at=soon, batch_id=BatchId("batch_a"))

    taken = await BacklogTable(engine).take(Lane.LOW, "deadlines", 3)

    assert [job_id for job_id, _ in taken] == [oldest.id, newest.id, late_job.id]


async def test_a_quiet_tenant_does_not_stand_behind_a_noisy_one(engine: AsyncEngine) -> None:
    await tenants(engine, "noisy", "quiet")
    noisy = await stored(engine, 300, model="fair", tenant_id=TenantId("noisy"))
    table = BacklogTable(engine)
    await table.take(Lane.LOW, "fair", 100)
    quiet = await stored(engine, 10, model="fair", tenant_id=TenantId("quiet"))

    taken = await table.take(Lane.LOW, "fair", 20)

    assert owners(taken, noisy=noisy, quiet=quiet) == {"quiet": 10, "noisy": 10}


async def test_tenants_share_by_tokens_and_not_by_jobs(engine: AsyncEngine) -> None:
    await tenants(engine, "heavy", "light")
    heavy = await stored(engine, 100, model="tokens", tenant_id=TenantId("heavy"), body=HEAVY)
    light = await stored(engine, 100, model="tokens", tenant_id=TenantId("light"), body=LIGHT)

    shares = owners(await BacklogTable(engine).take(Lane.LOW, "tokens", 100), heavy=heavy, light=light)

    assert 3.5 <= shares["light"] / shares["heavy"] <= 4.5


async def test_a_tenant_that_was_idle_has_saved_up_nothing(engine: AsyncEngine) -> None:
    await tenants(engine, "busy", "idle")
    idle = await stored(engine, 1, model="idle", tenant_id=TenantId("idle"))
    busy = await stored(engine, 400, model="idle", tenant_id=TenantId("busy"))
    table = BacklogTable(engine)
    await table.take(Lane.LOW, "idle", 201)
    idle += await stored(engine, 100, model="idle", tenant_id=TenantId("idle"))

    taken = await table.take(Lane.LOW, "idle", 100)

    assert owners(taken, busy=busy, idle=idle)["busy"] >= 45


async def test_nobody_pays_for_having_been_alone(engine: AsyncEngine) -> None:
    await tenants(engine, "alone", "later")
    alone = await stored(engine, 300, model="alone", tenant_id=TenantId("alone"))
    table = BacklogTable(engine)
    await table.take(Lane.LOW, "alone", 200)
    later = await stored(engine, 100, model="alone", tenant_id=TenantId("later"))

    taken = await table.take(Lane.LOW, "alone", 100)

    assert owners(taken, alone=alone, later=later)["alone"] >= 45


async def test_a_flow_of_more_tenants_than_one_look_holds_is_served_in_turns(engine: AsyncEngine) -> None:
    names = [f"crowd{number:02}" for number in range(10)]
    await tenants(engine, *names)
    jobs = [(await stored(engine, 2, model="crowd", tenant_id=TenantId(name)))[0].id for name in names]
    table = BacklogTable(engine)

    rounds = [await table.take(Lane.LOW, "crowd", 4, most_groups=4) for _ in range(6)]

    taken = {job_id for part in rounds for job_id, _ in part}
    assert set(jobs) <= taken
    assert len(taken) == 20


async def test_no_take_looks_at_more_rows_than_it_may_and_stays_fair(engine: AsyncEngine) -> None:
    await tenants(engine, "deep", "flat")
    deep = await stored(engine, 100, model="bounded", tenant_id=TenantId("deep"))
    flat = await stored(engine, 5, model="bounded", tenant_id=TenantId("flat"))
    table = BacklogTable(engine)

    rounds = [await table.take(Lane.LOW, "bounded", 50, most_looked_at=20) for _ in range(3)]

    assert [len(part) for part in rounds][1:] == [20, 20]
    assert owners(rounds[0], deep=deep, flat=flat) == {"deep": 10, "flat": 5}


async def test_what_could_not_be_published_is_given_back(engine: AsyncEngine) -> None:
    await stored(engine, 3, model="back")
    table = BacklogTable(engine)
    taken = await table.take(Lane.LOW, "back", 3)

    assert await table.give_back([job_id for job_id, _ in taken]) == 3

    assert len(await table.take(Lane.LOW, "back", 3)) == 3


async def test_times_that_the_flow_has_overtaken_are_forgotten(engine: AsyncEngine) -> None:
    await tenants(engine, "past", "present")
    await stored(engine, 1, model="times", tenant_id=TenantId("past"))
    await stored(engine, 9, model="times", tenant_id=TenantId("present"))
    table = BacklogTable(engine)
    await table.take(Lane.LOW, "times", 10)

    await table.forget_times()

    async with engine.connect() as connection:
        left = await connection.execute(text("SELECT tenant_id FROM tenant_times WHERE model = 'times'"))
        assert left.scalars().all() == ["present"]


@pytest.fixture(scope="module")
def large_backlog_url(database_url: str) -> Iterator[str]:
    """A few jobs of one tenant behind many of another, in a database whose statistics no other test has touched."""
    with fresh_database(database_url) as url:
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("INSERT INTO tenants (id) VALUES ('crowd')")
            connection.execute(
                "INSERT INTO jobs (id, tenant_id, lane, model, endpoint, state, expires_at, max_tries,"
                " max_reprompts, request_digest)"
                " SELECT gen_random_uuid()::text, CASE WHEN n <= 20000 THEN 'crowd' ELSE 'default' END, 'low',"
                " 'm' || n % 3, '/', 'queued', now() + interval '1 day', 1, 1, '' FROM generate_series(1, 20020) n"
            )
            connection.execute("VACUUM (ANALYZE) jobs")
        yield url


ALONE = {
    "most": 10,
    "most_of_tenant": 2,
    "unclaimed_seconds": 60.0,
    "tenants": ["default"],
    "under_way": [1],
    "job_ids": ["job_1"],
}
NAMED = {"name": "default", "until_at": datetime(2030, 1, 1, tzinfo=UTC), "most": 10, "lane": "high"}
CLAIMED = {"id": ["job_1"], "generation": [0], "claim": [None], "holder": "w", "lease_seconds": 30.0}
COMPARES_EACH_WITH_EACH = re.compile(r"Join Filter: \(\w+\.id = \w+\.id\)")
"""What the planner chooses where it expects one job and there are a thousand."""

OF_FLOW = {"lane": "low", "model": "m1", "most_groups": 100}
CAPACITIES = {"full": ["full"], "tenants": ["other"], "most_jobs": [5], "most_tokens": [None]}
TAKE = OF_FLOW | CAPACITIES | {"most": 10, "intake_seconds": 2.0, "most_looked_at": 1_000}


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        (due.STAGE_DUE, {"most": 10}),
        (
            due.RESCUE,
            {"asked_at": datetime.now(UTC), "most": 10, "most_deaths": 3, "renewal_seconds": 0, "most_unexplained": 3},
        ),
        (backlog.FLOWS, {}),
        (backlog.TENANTS, OF_FLOW),
        (backlog.TAKE, TAKE),
        (controls.PUT_BACK, {"most": 10}),
        (claims.HOLD, CLAIMED),
        (suspects.NEXT_ALONE, ALONE),
        *((query, NAMED) for query in sweeps.CANCEL_SOME.values()),
        *((query, NAMED) for query in sweeps.MOVE_SOME.values()),
        *((query, NAMED) for query in sweeps.ALIVE.values()),
        (usage.OPEN_JOBS, {"tenant_id": "other", "most": 100}),
        (usage.BYTES, {"tenant_id": "other", "most": 100, "recent_seconds": 120.0}),
        (urgent.UNCLAIMED, {"tenant_id": "other", "lane": "critical", "most": 32}),
        (parked.WAKE_SOME, {"reason": "budget", "model": "m1", "spread_seconds": 1.0, "most": 10}),
        (parked.WAKE_SOME_OF_ANY_MODEL, {"reason": "budget", "spread_seconds": 1.0, "most": 10}),
    ],
)
async def test_no_statement_scans_a_large_backlog(
    large_backlog_url: str, query: str, parameters: dict[str, Any]
) -> None:
    lines = await plan_of(large_backlog_url, query, parameters)

    assert not [line for line in lines if "Seq Scan on jobs" in line]


async def test_taking_a_thousand_jobs_does_not_compare_each_with_each(large_backlog_url: str) -> None:
    lines = await plan_of(large_backlog_url, backlog.TAKE, TAKE | {"most": 1_000})

    assert not [line for line in lines if COMPARES_EACH_WITH_EACH.search(line)]


async def plan_of(database_url: str, query: str, parameters: dict[str, Any]) -> list[str]:
    named = {name: value for name, value in parameters.items() if f":{name}" in query}
    engine = open_engine(database_url, application="tests")
    async with engine.connect() as connection:
        plan = await connection.execute(text(f"EXPLAIN {query}"), named)
        lines = [str(line) for line in plan.scalars()]
    await engine.dispose()
    return lines
