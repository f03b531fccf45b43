"""Measures what a deep backlog costs dispatch, and how fairness serves quiet tenants beside a noisy one.

Run by `python -m bench.store.dispatch [JOBS]` (default 1,000,000). Prints ratios of one run and asserts nothing:

    depth      jobs dispatched per second with 1,000 and with JOBS queued, and the memory of Redis before and after
    fairness   the wait of 20 quiet tenants beside one with JOBS / 10 queued, in the order of dispatch and as FIFO;
               a wait is counted in jobs that went before, because a provider's limit serves so many per second
    controls   from the request to the first refusal: pause, resume and cancel of a batch that is the whole backlog
"""

import asyncio
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.control import Kind, Subject
from schemas.lanes import Lane
from stack.home import Home
from stack.servers import EmbeddedServers
from storage.database.engine import open_engine
from storage.database.schema import migrate
from storage.queue.backlog import BacklogTable
from storage.queue.controls import ControlTable
from tasks.dispatch.celery_app import celery_app
from tasks.dispatch.publisher import Publisher
from tasks.dispatch.refill import dispatch
from tasks.maintenance.items import Isolation
from tests.support.outlet import Open, Shares

WINDOW = 1_200
SLICE = 32
SHALLOW = 1_000
ROUNDS = 12
QUIET_TENANTS = 20
QUIET_JOBS = 10
FILL = """
INSERT INTO jobs (id, tenant_id, batch_id, lane, model, endpoint, state, expires_at, max_tries, max_reprompts,
    request_digest, created_at)
SELECT :model || '_' || md5(n::text), :tenant, 'batch_' || :model, 'low', :model, '/', 'queued',
    now() + interval '1 day', 5, 2, repeat('a', 64), now() - interval '1 hour' + n * interval '1 ms'
FROM generate_series(1, :jobs) n
"""
FORGET_RUN_AHEAD = "UPDATE jobs SET state = 'completed', dispatched_at = NULL WHERE dispatched_at IS NOT NULL"
REFILL = "UPDATE jobs SET state = 'queued', dispatched_at = NULL WHERE model = :model AND state = 'completed'"


def tell(line: str) -> None:
    """Print a line of the report."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Bench:
    """One database and one Redis of its own."""

    def __init__(self, engine: AsyncEngine, redis_url: str) -> None:
        self.engine = engine
        self.backlog = BacklogTable(engine)
        self.app = celery_app(redis_url)
        self.publisher = Publisher(self.app)
        self.redis: Redis = Redis.from_url(redis_url)

    async def run(self, query: str, **parameters: object) -> None:
        """Run one statement."""
        async with self.engine.begin() as connection:
            await connection.execute(text(query), parameters)

    async def fill(self, model: str, tenant: str, jobs: int) -> None:
        """Queue jobs of a tenant, an hour old."""
        await self.run("INSERT INTO tenants (id) VALUES (:id) ON CONFLICT DO NOTHING", id=tenant)
        await self.run(FILL, model=model, tenant=tenant, jobs=jobs)
        await self.run("ANALYZE jobs")

    async def memory(self) -> int:
        """Return the bytes that Redis uses."""
        info = await self.redis.info("memory")
        return int(info["used_memory"])

    async def consume(self) -> None:
        """Simulate workers: remove all messages, and all published jobs from the prefetch window."""
        await self.redis.delete(*(lane.queue for lane in Lane))
        await self.run(FORGET_RUN_AHEAD)


@asynccontextmanager
async def opened() -> AsyncIterator[Bench]:
    """Start servers for this run alone."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedServers.started(Home(Path(folder))) as servers,
    ):
        with psycopg.connect(servers.postgres.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE bench")
        url = re.sub(r"/[^/]*$", "/bench", servers.postgres.url)
        migrate(url)
        engine = open_engine(url, application="bench")
        bench = Bench(engine, servers.valkey.url)
        try:
            yield bench
        finally:
            await bench.redis.aclose()
            await asyncio.to_thread(bench.app.close)
            await engine.dispose()


async def dispatched_per_second(bench: Bench) -> float:
    """Return the rate of dispatch rounds, Redis included. Only dispatch is timed; taken jobs are consumed."""
    jobs, seconds = 0, 0.0
    for _ in range(ROUNDS):
        started = time.perf_counter()
        jobs += await dispatch(
            bench.backlog, bench.publisher, Open(WINDOW), Shares(), slice_size=SLICE, isolation=Isolation("dispatch")
        )
        seconds += time.perf_counter() - started
        await bench.consume()
        await bench.run(REFILL, model="shallow")
    return jobs / seconds


async def measure_depth(bench: Bench, deep: int) -> None:
    """Compare dispatch and Redis memory on a shallow and a deep backlog."""
    await bench.fill("shallow", "default", SHALLOW)
    await dispatched_per_second(bench)
    before, shallow = await bench.memory(), await dispatched_per_second(bench)
    await bench.run("TRUNCATE jobs CASCADE")
    await bench.fill("deep", "default", deep)
    with_deep = await bench.memory()
    deeper = await dispatched_per_second(bench)
    tell(f"dispatched per second: {shallow:,.0f} with {SHALLOW:,} queued, {deeper:,.0f} with {deep:,} queued")
    tell(f"  ratio {deeper / shallow:.2f}   (a round of the deep one takes {WINDOW}, of the shallow one {SHALLOW})")
    tell(f"Redis memory: {before:,} bytes before, {with_deep:,} with the deep backlog")


async def measure_controls(bench: Bench, deep: int) -> None:
    """Time pause, resume and cancel of a deep batch."""
    table, take = ControlTable(bench.engine), BacklogTable(bench.engine).take
    subject = Subject(kind=Kind.BATCH, name="batch_deep")
    for word, say in (("pause", table.pause), ("resume", table.resume), ("cancel", table.cancel)):
        started = time.perf_counter()
        await say(subject)
        said = time.perf_counter()
        taken = await take(Lane.LOW, "deep", 10)
        looked = time.perf_counter()
        tell(f"{word} of {deep:,} jobs: in force in {(said - started) * 1_000:.0f} ms,")
        tell(f"the next TAKE needs {(looked - said) * 1_000:.0f} ms and finds {len(taken)}")
    started, moved = time.perf_counter(), 0
    for _ in range(10):
        moved += await table.sweep()
    tell(f"cancelled in rounds: {moved / (time.perf_counter() - started):,.0f} per second")
    await bench.run("TRUNCATE controls")


async def measure_fairness(bench: Bench, noisy: int) -> None:
    """Measure how long quiet tenants wait beside a noisy one."""
    await bench.run("TRUNCATE jobs CASCADE")
    await bench.fill("fair", "noisy", noisy)
    table = BacklogTable(bench.engine)
    in_queue = [job_id for job_id, _ in await table.take(Lane.LOW, "fair", WINDOW)]
    for number in range(QUIET_TENANTS):
        tenant = f"quiet{number}"
        await bench.run("INSERT INTO tenants (id) VALUES (:id)", id=tenant)
        await bench.run(FILL.replace(":model || '_'", ":tenant || '_'"), model="fair", tenant=tenant, jobs=QUIET_JOBS)
    waits: list[int] = []
    position = len(in_queue)
    while len(waits) < QUIET_TENANTS * QUIET_JOBS:
        for job_id, _ in await table.take(Lane.LOW, "fair", WINDOW // 4):
            position += 1
            if job_id.startswith("quiet"):
                waits.append(position)
    fair, fifo = sorted(waits)[int(len(waits) * 0.99)], noisy + int(len(waits) * 0.99)
    tell(f"p99 wait of {QUIET_TENANTS} quiet tenants beside {noisy:,} queued jobs of one: {fair:,} jobs go before,")
    tell(f"  as FIFO {fifo:,}; ratio {fair / fifo:.4f}   ({WINDOW:,} of them were published already)")


async def main(deep: int) -> None:
    """Print all of it."""
    async with opened() as bench:
        await measure_depth(bench, deep)
        await measure_controls(bench, deep)
        await measure_fairness(bench, deep // 10)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
