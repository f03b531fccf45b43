"""Writers of many rows at once never wait for each other in a circle: all take their locks in the order of ids."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import closed, new_job, opened
from schemas.attempt import AttemptState, OpenedAttempt
from schemas.decision import AskAgain, Complete
from schemas.ids import BatchId, JobId, TenantId
from schemas.job import Lease, LeasedJob
from schemas.lanes import Lane
from schemas.money import NanoUsd
from schemas.reply import Reply
from storage.batches.batches import BatchTable
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.ledger.ledger import LedgerTable
from storage.queue.backlog import BacklogTable
from storage.queue.transitions import DueTable

REPLY = Reply(body={"id": "c", "model": "m"}, text="", finish_reason="stop", refusal=None, usage=None, model="m")
JOBS = 400
ROUNDS = 25
TENANT = TenantId("default")


def shuffled(leases: list[Lease], seed: int) -> list[Lease]:
    return random.Random(seed).sample(leases, len(leases))  # noqa: S311 - an order, not a secret


async def all_held(table: JobTable) -> list[LeasedJob]:
    jobs = [new_job() for _ in range(JOBS)]
    await table.insert(jobs)
    held = await table.hold([(job.id, 0) for job in jobs])
    return [one for one in held if one is not None]


async def all_opened(table: JobTable, ledger: LedgerTable) -> list[tuple[Lease, OpenedAttempt]]:
    epoch = await ledger.epoch()
    attempts = [(held.lease, opened(held.lease, epoch=epoch)) for held in await all_held(table)]
    assert all(await table.open([attempt for _, attempt in attempts]))
    return attempts


async def repeated(work: Callable[[int], Awaitable[object]]) -> None:
    for number in range(ROUNDS):
        await work(number)


async def test_heartbeats_and_records_of_the_same_jobs_do_not_deadlock(engine: AsyncEngine) -> None:
    table = JobTable(engine, holder="w", lease_seconds=30)
    leases = [held.lease for held in await all_held(table)]
    again = AskAgain(body={}, reason="invalid")

    async def record(number: int) -> None:
        part = shuffled(leases, number)
        assert all(await table.record([Record(lease=lease, closed=None, decision=again) for lease in part]))

    async def renew(number: int) -> None:
        assert len(await table.renew(shuffled(leases, -number))) == JOBS

    await asyncio.gather(*(repeated(record) for _ in range(2)), *(repeated(renew) for _ in range(2)))


async def test_rescue_and_a_zombies_record_do_not_deadlock(engine: AsyncEngine) -> None:
    table, ledger = JobTable(engine, holder="w", lease_seconds=-1), LedgerTable(engine)
    attempts = await all_opened(table, ledger)
    done = Complete(reply=REPLY)

    async def record() -> None:
        await table.record([Record(lease=lease, closed=closed(one), decision=done) for lease, one in attempts[::-1]])

    await asyncio.gather(record(), *(DueTable(engine).rescue(datetime.now(UTC), renewal_seconds=0) for _ in range(3)))

    rebuilt = await ledger.rebuild(attempts[0][1].opened_at)
    assert rebuilt.balances == []  # these attempts count against no budget
    assert await ledger.suspense(older_seconds=-60) == []


async def test_resolving_a_suspense_and_its_zombies_record_do_not_deadlock(engine: AsyncEngine) -> None:
    table, ledger = JobTable(engine, holder="w", lease_seconds=30), LedgerTable(engine)
    attempts = await all_opened(table, ledger)
    again = AskAgain(body={}, reason="cut")
    suspended = [(lease, one, closed(one, cost=500, state=AttemptState.SUSPENSE)) for lease, one in attempts]
    await table.record([Record(lease=lease, closed=end, decision=again) for lease, _, end in suspended])

    late = [Record(lease=lease, closed=closed(one), decision=again) for lease, one in attempts]
    await asyncio.gather(table.record(late[::-1]), *(ledger.post(one.id, NanoUsd(42)) for _, one in attempts[:50]))

    assert await ledger.suspense(older_seconds=-60) == []


async def test_claims_and_the_cancellation_of_their_batch_do_not_deadlock(engine: AsyncEngine) -> None:
    table, batches, backlog = JobTable(engine, holder="w", lease_seconds=30), BatchTable(engine), BacklogTable(engine)

    async def cancelled_while_held(number: int) -> None:
        batch_id = BatchId(f"batch_{number}")
        jobs = [new_job(batch_id=batch_id, custom_id=str(n), model=f"c{number}", lane=Lane.LOW) for n in range(JOBS)]
        await table.insert(jobs)
        claims: list[tuple[JobId, int]] = [(job.id, 0) for job in jobs]
        held, _, _, _ = await asyncio.gather(
            table.hold(claims[::-1]),
            batches.refuse(batch_id, []),
            backlog.take(Lane.LOW, f"c{number}", JOBS),
            table.mark_dispatched([job.id for job in jobs]),
        )
        assert len(held) == JOBS

    for number in range(8):
        await cancelled_while_held(number)
