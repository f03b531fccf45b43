"""A value that cannot be written, among the jobs of others: the real stores, and models that keep nothing from them."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import new_job
from config.logs import configure_logs
from schemas.ids import AttemptId
from schemas.job import Job, NewJob, Target
from schemas.jsons import JsonObject
from schemas.money import NanoUsd, Quote
from schemas.plan import Plan
from schemas.reply import Reply, Trouble
from storage.jobs.group_jobs import GroupedJobs
from storage.jobs.writes import JobTable
from tasks.execution.deps import OnChunk
from tasks.execution.heartbeats import LeaseKeeper
from tasks.execution.pipeline import run_job
from tasks.requests.new_ids import new_attempt_id
from tests.support.fakes import PRICE, FakeGate, FakeJobs, FakeModels, a_job, a_reply, deps_of

NEIGHBOURS = 200
SECRET = "the words of a prompt"


@dataclass
class Models(FakeModels):
    """Answers a job by the poison that its body names; counts what was paid for."""

    answers: list[Reply | Trouble] = field(default_factory=list)
    paid: Counter[str] = field(default_factory=Counter)

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan:
        tokens = 2**70 if body.get("poison") == "reservation" else 100
        quote = Quote(input_tokens=tokens, output_tokens=100, cost_nano_usd=NanoUsd(300))
        return Plan(target=target, body=body | {"job": job.id}, price=PRICE, quote=quote)

    async def call(
        self, plan: Plan, attempt_id: AttemptId, *, deadline_seconds: float, on_chunk: OnChunk | None
    ) -> Reply:
        self.paid[plan.body["job"]] += 1
        reply = a_reply(SECRET)
        match plan.body.get("poison"):
            case "model":
                return replace(reply, model=f"{SECRET}\0")
            case "tier":
                return replace(reply, service_tier="\ud83d")
            case "reply":
                return replace(reply, body={"t": object()})
            case "latency":
                return replace(reply, latency_ms=2**40)
        return reply


@dataclass
class Run:
    engine: AsyncEngine
    models: Models
    jobs: list[NewJob]
    culprit: NewJob

    async def rows(self, query: str) -> list[tuple[object, ...]]:
        async with self.engine.connect() as connection:
            found = await connection.execute(text(query), {"ids": [job.id for job in self.jobs]})
            return [tuple(row) for row in found]


async def run_with(engine: AsyncEngine, poison: str) -> Run:
    body = {"messages": [{"role": "user", "content": SECRET}]}
    culprit = new_job(body=body | {"poison": poison}, contract=None)
    jobs = [new_job(body=body, contract=None) for _ in range(NEIGHBOURS)]
    jobs.insert(NEIGHBOURS // 3, culprit)
    table = JobTable(engine, holder="w", lease_seconds=600)
    await table.insert(jobs)
    models = Models()
    grouped = GroupedJobs(table, LeaseKeeper(table.renew, every_seconds=60))
    deps = deps_of(FakeJobs(a_job()), FakeGate(), models, now=lambda: datetime.now(UTC))
    deps = replace(deps, jobs=grouped, attempt_id=new_attempt_id)
    await asyncio.gather(*(run_job(job.id, 0, deps) for job in jobs))
    return Run(engine, models, jobs, culprit)


@pytest.fixture
def logs(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logs("production")
    yield capsys
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.mark.parametrize("poison", ["model", "tier", "reply", "latency"])
async def test_a_reply_that_cannot_be_written_ends_its_own_job_and_no_other(
    engine: AsyncEngine, poison: str, logs: pytest.CaptureFixture[str]
) -> None:
    run = await run_with(engine, poison)

    states = await run.rows("SELECT state, dead_reason, count(*) FROM jobs WHERE id = ANY(:ids) GROUP BY 1, 2")
    assert sorted(states, key=str) == [("completed", None, NEIGHBOURS), ("dead", "internal_error", 1)]
    assert set(run.models.paid.values()) == {1}
    booked = await run.rows(
        "SELECT a.job_id, a.state, l.nano_usd, j.spent_nano_usd FROM attempts a JOIN jobs j ON j.id = a.job_id"
        " JOIN ledger l ON l.attempt_id = a.id WHERE a.job_id = ANY(:ids)"
    )
    assert sorted(booked) == sorted((job.id, "posted", 20, 20) for job in run.jobs)
    written = logs.readouterr().err
    assert "record_failed" in written
    assert SECRET not in written


async def test_a_call_that_cannot_be_opened_is_not_made_and_its_neighbours_are(engine: AsyncEngine) -> None:
    run = await run_with(engine, "reservation")

    states = await run.rows("SELECT state, dead_reason, count(*) FROM jobs WHERE id = ANY(:ids) GROUP BY 1, 2")
    assert sorted(states, key=str) == [("completed", None, NEIGHBOURS), ("dead", "internal_error", 1)]
    assert (run.models.paid[run.culprit.id], len(run.models.paid)) == (0, NEIGHBOURS)
