"""Compares claiming and finishing jobs in grouped commits with one commit per job.

Run by `python -m bench.store.finish [IN_FLIGHT]` (default 64, in one process, as in a worker), on servers of its own.
Postgres is durable, as the product starts it; the settings are queried and printed. Rounds are interleaved and the best
of each counts. Fails where finishing in groups is less than five times as fast.

    grouped        what the pipeline calls: `GroupedJobs` makes one commit of what gathers during a flush
    one by one     the same statements, one transaction per job, as many in flight on the same pool
"""

import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import closed, new_job, opened
from schemas.attempt import ClosedAttempt
from schemas.decision import Complete
from schemas.ids import JobId
from schemas.job import Lease, NewJob
from schemas.reply import Reply
from stack.home import Home
from stack.servers import EmbeddedServers
from storage.database.engine import open_engine
from storage.database.schema import migrate
from storage.jobs.group_jobs import GroupedJobs
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from tasks.execution.heartbeats import LeaseKeeper

IN_FLIGHT = 64
JOBS = 500
"""Jobs per round and way."""

ROUNDS = 5
LEAST_RATIO = 5.0
LEASE_SECONDS = 600.0
DURABILITY = ("fsync", "synchronous_commit", "full_page_writes")

WORDS = "Water stands behind the gate until the turbine can use it. " * 20
BODY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "m-2026",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": WORDS}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 30, "completion_tokens": 240, "total_tokens": 270},
}
REPLY = Reply(body=BODY, text=WORDS, finish_reason="stop", refusal=None, usage=None, model="m-2026")
DONE = Complete(reply=REPLY, output=None)

Finish: TypeAlias = Callable[[Lease, ClosedAttempt], Awaitable[bool]]
Claim: TypeAlias = Callable[[JobId], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to write."""

    claim: Claim
    finish: Finish


def ways(table: JobTable) -> dict[str, Way]:
    """Return both ways over one table, by name."""
    grouped = GroupedJobs(table, LeaseKeeper(table.renew, every_seconds=60))  # the leases outlast the run

    async def claim_grouped(job_id: JobId) -> bool:
        return await grouped.hold(job_id, 0) is not None

    async def claim_alone(job_id: JobId) -> bool:
        [held] = await table.hold([(job_id, 0)])
        return held is not None

    async def finish_alone(lease: Lease, attempt: ClosedAttempt) -> bool:
        [kept] = await table.record([Record(lease=lease, closed=attempt, decision=DONE)])
        return kept

    return {
        "one by one": Way(claim=claim_alone, finish=finish_alone),
        "grouped": Way(claim=claim_grouped, finish=lambda lease, attempt: grouped.record(lease, attempt, DONE)),
    }


async def per_second(works: Sequence[Callable[[], Awaitable[bool]]], in_flight: int) -> float:
    """Do all works, `in_flight` at once; return works per second."""
    left = iter(works)

    async def slot() -> None:
        for work in left:
            assert await work()  # a refused write would be measured as a fast one

    began = time.perf_counter()
    await asyncio.gather(*(slot() for _ in range(in_flight)))
    return len(works) / (time.perf_counter() - began)


async def queued(table: JobTable) -> list[NewJob]:
    """Queue jobs and return them."""
    jobs = [new_job() for _ in range(JOBS)]
    await table.insert(jobs)
    return jobs


async def answered(table: JobTable) -> list[tuple[Lease, ClosedAttempt]]:
    """Return jobs in mid-call whose replies have just come."""
    held = await table.hold([(job.id, 0) for job in await queued(table)])
    leases = [one.lease for one in held if one is not None]
    attempts = [opened(lease) for lease in leases]
    await table.open(attempts)
    return [(lease, closed(attempt)) for lease, attempt in zip(leases, attempts, strict=True)]


async def measured(engine: AsyncEngine, in_flight: int) -> dict[tuple[str, str], float]:
    """Return the best rate of each step in each way."""
    table = JobTable(engine, holder="bench", lease_seconds=LEASE_SECONDS)
    best: dict[tuple[str, str], float] = defaultdict(float)
    for _ in range(ROUNDS):
        for name, way in ways(table).items():
            claims = [partial(way.claim, job.id) for job in await queued(table)]
            best["claim", name] = max(best["claim", name], await per_second(claims, in_flight))
            finishes = [partial(way.finish, lease, attempt) for lease, attempt in await answered(table)]
            best["finish", name] = max(best["finish", name], await per_second(finishes, in_flight))
    return best


async def main(url: str, in_flight: int) -> float:
    """Print the table; return by what factor grouped finishing is faster."""
    engine = open_engine(url, application="bench")
    try:
        async with engine.connect() as connection:
            durable = [f"{name} {(await connection.execute(text(f'SHOW {name}'))).scalar()}" for name in DURABILITY]
        best = await measured(engine, in_flight)
    finally:
        await engine.dispose()
    print(f"{in_flight} in flight, best of {ROUNDS} rounds of {JOBS} jobs; {', '.join(durable)}")  # noqa: T201 - a report
    print(f"{'jobs per second':<16}{'one by one':>12}{'grouped':>12}{'ratio':>8}")  # noqa: T201 - the same
    ratios = {}
    for step in ("claim", "finish"):
        alone, grouped = best[step, "one by one"], best[step, "grouped"]
        ratios[step] = grouped / alone
        print(f"{step:<16}{alone:>12,.0f}{grouped:>12,.0f}{ratios[step]:>8.1f}")  # noqa: T201 - the same
    return ratios["finish"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, EmbeddedServers.started(Home(Path(folder))) as servers:
        migrate(servers.postgres.url)
        ratio = asyncio.run(main(servers.postgres.url, int(sys.argv[1]) if len(sys.argv) > 1 else IN_FLIGHT))
    sys.exit(int(ratio < LEAST_RATIO))
