"""A thousand jobs and money for a third of them, over the real stores: under no policy is the limit passed."""

import asyncio
import random
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from admission.connect import Admission
from admission.local_gate import LocalGate
from bench.store.sample_jobs import new_job
from schemas.admission import BudgetCounter, Pace, Step
from schemas.attempt import OpenedAttempt
from schemas.contract import OutputContract
from schemas.ids import AttemptId, JobId, TenantId
from schemas.job import Job, NewJob, Target
from schemas.jsons import JsonObject
from schemas.money import NanoUsd, Price, Quote, Usage
from schemas.outcome import Judged, Valid
from schemas.plan import Plan
from schemas.reply import Reply
from storage.jobs.group_jobs import GroupedJobs
from storage.jobs.response_cache import AnswerReads
from storage.jobs.writes import JobTable
from storage.ledger.ledger import LedgerTable
from storage.queue.transitions import DueTable
from tasks.execution.deps import Deps, OnChunk
from tasks.execution.heartbeats import LeaseKeeper
from tasks.execution.pipeline import run_job
from tasks.requests.new_ids import new_attempt_id
from tests.support.admission_fixture import START_US, Clock, moment_of
from tests.support.fakes import SilentObserver, no_pause

JOBS, AT_ONCE = 1_000, 100
LIMIT = NanoUsd(333 * 150)
"""A third of the jobs at what they cost; each reserves twice as much."""

DEAR, CHEAP = Target(account="fake", model="dear"), Target(account="fake", model="cheap")
TODAY = datetime.now(UTC)


def price(figure: int) -> Price:
    return Price(
        input_nano_usd=figure * 1_000_000, cached_input_nano_usd=0, output_nano_usd=figure * 1_000_000, source="t"
    )


PRICES = {DEAR: price(10), CHEAP: price(1)}


@dataclass
class Provider:
    """Bills what it answers: half of what was reserved."""

    scope: str
    steps: tuple[Step, ...]
    limit: NanoUsd = LIMIT
    pace: Pace | None = None
    day: int = 0
    bill: Counter[int] = field(default_factory=Counter)

    def chain(self, model: str) -> tuple[Target, ...]:
        return (DEAR, CHEAP) if model == "alias" else (DEAR,)

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan:
        counter = BudgetCounter(
            scope=self.scope,
            window=f"day {self.day}",
            limit_nano_usd=self.limit,
            ends_at=now + timedelta(minutes=5),
            on_exhausted=self.steps,
            pace=self.pace,
        )
        quote = Quote(input_tokens=10, output_tokens=20, cost_nano_usd=NanoUsd(0))
        usage = Usage(input_tokens=quote.input_tokens, output_tokens=quote.output_tokens)
        quote = Quote(input_tokens=10, output_tokens=20, cost_nano_usd=PRICES[target].cost(usage))
        return Plan(target=target, body=body, price=PRICES[target], quote=quote, counters=(counter,))

    async def call(
        self, plan: Plan, attempt_id: AttemptId, *, deadline_seconds: float, on_chunk: OnChunk | None
    ) -> Reply:
        usage = Usage(input_tokens=5, output_tokens=10)
        self.bill[self.day] += plan.price.cost(usage)
        return Reply(body={"model": "m"}, text="", finish_reason="stop", refusal=None, usage=usage, model="m")

    def served_price(self, opened: OpenedAttempt, reply: Reply) -> Price:
        return opened.price

    async def judge(self, reply: Reply, contract: OutputContract | None, tenant_id: TenantId) -> Judged:
        return Valid(reply=reply, output={"fresh": True})


@dataclass
class World:
    """A tenant of its own over the real stores."""

    engine: AsyncEngine
    admission: Admission
    provider: Provider
    tenant: TenantId = field(default_factory=lambda: TenantId("default"))
    jobs: list[JobId] = field(default_factory=list)

    async def run(self, jobs: list[NewJob]) -> None:
        table = JobTable(self.engine, holder="w", lease_seconds=600)
        for start in range(0, len(jobs), 500):
            await table.insert(jobs[start : start + 500])
        self.jobs += [job.id for job in jobs]
        await self.run_queued()

    async def run_queued(self) -> None:
        table = JobTable(self.engine, holder="w", lease_seconds=600)
        grouped = GroupedJobs(table, LeaseKeeper(table.renew, every_seconds=60))
        epoch = await LedgerTable(self.engine).epoch()
        await self.admission.ledger.rebuild(
            epoch, [], []
        ) if epoch != await self.admission.gate.current_epoch() else None
        deps = Deps(
            jobs=grouped,
            gate=LocalGate(self.admission.gate, jitter=random.random),
            planner=self.provider,
            models=self.provider,
            answers=AnswerReads(self.engine),
            observer=SilentObserver(),
            now=lambda: datetime.now(UTC),
            clock=time.monotonic,
            pause=no_pause,
            jitter=random.random,
            attempt_id=new_attempt_id,
        )
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(job_id: JobId, generation: int) -> None:
            async with slots:
                await run_job(job_id, generation, deps)

        queued = await self.rows("SELECT id, generation FROM jobs WHERE state = 'queued' AND id = ANY(:ids)")
        await asyncio.gather(*(one(JobId(row[0]), row[1]) for row in queued))

    async def states(self) -> dict[str, int]:
        found = await self.rows("SELECT state, count(*) FROM jobs WHERE id = ANY(:ids) GROUP BY state")
        return {row[0]: row[1] for row in found}

    async def ledger(self) -> int:
        query = "SELECT COALESCE(sum(nano_usd), 0) FROM ledger JOIN attempts a ON a.id = attempt_id"
        [row] = await self.rows(f"{query} WHERE a.job_id = ANY(:ids)")
        return int(row[0])

    async def rows(self, query: str, **named: str) -> list[tuple]:  # type: ignore[type-arg]  # whatever was asked for
        async with self.engine.begin() as connection:
            return list(map(tuple, await connection.execute(text(query), {"ids": self.jobs} | named)))

    async def turn_the_window(self) -> None:
        self.provider.day += 1
        await self.wake()

    async def wake(self) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text("UPDATE jobs SET wake_at = now() WHERE state = 'waiting'"))
        while await DueTable(self.engine).stage_due():
            pass


def world(engine: AsyncEngine, admission: Admission, *steps: Step) -> World:
    return World(engine, admission, Provider(f"tenant:{uuid.uuid4().hex}", steps))


async def balances(world: World) -> tuple[int, int]:
    counter = BudgetCounter(scope=world.provider.scope, window=f"day {world.provider.day}", limit_nano_usd=LIMIT)
    [balance] = await world.admission.gate.budgets([counter])
    return balance.settled_nano_usd, balance.reserved_nano_usd


def jobs(number: int, **changes: object) -> list[NewJob]:
    return [new_job(**({"request_digest": uuid.uuid4().hex} | changes)) for _ in range(number)]


async def test_parked_jobs_finish_when_the_window_turns(engine: AsyncEngine, admission: Admission) -> None:
    here = world(engine, admission, Step.PARK)
    await here.run(jobs(JOBS))
    first = await here.states()
    assert set(first) == {"completed", "waiting"}
    assert 250 < first["completed"] <= 333

    for _ in range(5):
        await here.turn_the_window()
        await here.run_queued()

    assert await here.states() == {"completed": JOBS}
    assert max(here.provider.bill.values()) <= LIMIT
    assert await here.ledger() == sum(here.provider.bill.values())


async def test_the_rest_is_rejected_and_none_is_lost(engine: AsyncEngine, admission: Admission) -> None:
    here = world(engine, admission, Step.REJECT)
    await here.run(jobs(JOBS))

    states = await here.states()
    assert set(states) == {"completed", "dead"}
    assert sum(states.values()) == JOBS
    assert here.provider.bill[0] <= LIMIT
    assert await balances(here) == (here.provider.bill[0], 0)


async def test_the_rest_goes_to_the_cheaper_model_unless_it_pins_its_own(
    engine: AsyncEngine, admission: Admission
) -> None:
    here = world(engine, admission, Step.CHEAPER, Step.REJECT)
    await here.run(jobs(JOBS - 100, model="alias") + jobs(100, model="dear"))

    used = dict(
        await here.rows(
            "SELECT model, count(*) FROM attempts WHERE job_id = ANY(:ids) AND outcome = 'valid' GROUP BY 1"
        )
    )
    pinned = await here.rows(
        "SELECT 1 FROM attempts a JOIN jobs j ON j.id = a.job_id"
        " WHERE j.id = ANY(:ids) AND j.model = 'dear' AND a.model = 'cheap'"
    )
    assert used["cheap"] >= 10  # what one dear reservation leaves buys ten; how many more depends on when calls settle
    assert pinned == []
    assert sum((await here.states()).values()) == JOBS
    assert here.provider.bill[0] <= LIMIT


async def test_the_rest_is_answered_as_before_or_waits(engine: AsyncEngine, admission: Admission) -> None:
    here = world(engine, admission, Step.CACHED, Step.PARK)
    digest = uuid.uuid4().hex
    await here.run(jobs(1, request_digest=digest))
    await here.run(jobs(600))
    await here.run(jobs(399, request_digest=digest))

    rows = await here.rows("SELECT state FROM jobs WHERE id = ANY(:ids) AND request_digest = :digest", digest=digest)
    assert rows == [("completed",)] * 400
    assert (await here.states())["waiting"] > 200
    assert here.provider.bill[0] <= LIMIT
    assert await here.ledger() == here.provider.bill[0]


async def test_the_morning_cannot_eat_the_day_and_the_evening_has_all_of_it(
    engine: AsyncEngine, admission: Admission, clock: Clock
) -> None:
    here, hours, number = world(engine, admission, Step.PARK), 10, 400
    starts, ends = moment_of(START_US), moment_of(START_US + hours * 3_600_000_000)
    here.provider.limit = NanoUsd(number * 300)
    here.provider.pace = Pace(starts_at=starts, ends_at=ends, ahead=0.1)

    await here.run(jobs(number))
    spent = [here.provider.bill[0]]
    for _ in range(hours - 1):
        clock.pass_seconds(3_600)
        await here.wake()
        await here.run_queued()
        spent.append(here.provider.bill[0])

    assert all(sum_ <= here.provider.limit * (hour + 1) / hours for hour, sum_ in enumerate(spent))
    assert spent[0] < spent[1] < spent[2] < spent[3]
    assert await here.states() == {"completed": number}
    assert await balances(here) == (number * 150, 0)
    reasons = await here.rows("SELECT DISTINCT budget_steps[1] FROM jobs WHERE id = ANY(:ids) AND budget_steps <> '{}'")
    assert [("parked until it has room" in reason) for (reason,) in reasons] == [True]
