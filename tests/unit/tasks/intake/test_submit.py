"""Intake: what is stored is accepted, whatever the broker does; what a waiting caller is told."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Never

import pytest

from schemas.accepted import JobResult, Submission
from schemas.admission import Refusal, RefusalReason, Wait, WaitReason
from schemas.errors import PostgresBusy, PostgresUnavailable, QuotaReached, ShareUsedUp
from schemas.ids import JobId, TenantId
from schemas.job import Lease, LeasedJob, NewJob
from schemas.lanes import Lane
from schemas.states import JobState
from schemas.tenants import TenantShare
from storage.batches.batches import StoredBatch
from storage.database.engine import StatementFailed
from tasks.intake.call_places import CallPlaces
from tasks.intake.submit import Intake, TenantLimits
from tasks.intake.urgent_allowances import MOST_UNCLAIMED, Allowances
from tasks.tenancy.quotas import Quotas
from tests.support.fakes import NOW, FakeGate, FakeJobs, FakeModels, FakeUsage, a_job, a_reply, deps_of
from tests.support.outlet import Wire
from tests.support.virtual_time import in_virtual_time


@dataclass
class Rows:
    """Rows of jobs in memory."""

    dispatched: list[JobId] = field(default_factory=list)
    cancelled: list[JobId] = field(default_factory=list)
    end: JobResult | None = None
    inserted: int = 0
    named: Submission | None = None

    async def named_by_key(self, job: NewJob) -> Submission | None:
        return self.named

    async def insert(self, jobs: Sequence[NewJob]) -> Sequence[Submission]:
        return [Submission(job_id=job.id, state=JobState.QUEUED, generation=0, lane=job.lane) for job in jobs]

    async def insert_running(self, job: NewJob) -> LeasedJob | Submission:
        self.inserted += 1
        return LeasedJob(job=a_job(), lease=Lease(job_id=job.id, fence=1, holder="web", until_at=NOW))

    async def mark_dispatched(self, job_ids: Sequence[JobId]) -> None:
        self.dispatched.extend(job_ids)

    async def cancel(self, job_id: JobId, tenant_id: TenantId | None) -> bool:
        self.cancelled.append(job_id)
        return True

    async def rested(self, job_id: JobId) -> JobResult | None:
        state = JobState.CANCELLED if self.cancelled else JobState.COMPLETED
        return self.end or JobResult(job_id=job_id, state=state, lane=Lane.NORMAL)


class Unmarkable(Rows):
    """Rows of a Postgres that went away after the insert."""

    async def mark_dispatched(self, job_ids: Sequence[JobId]) -> None:
        raise PostgresUnavailable


class NoBatches:
    """Batches that nobody asks for."""

    async def create(self, *_: object, **__: object) -> StoredBatch:
        raise AssertionError

    async def cancel(self, *_: object) -> bool:
        raise AssertionError


def intake_of(rows: Rows, wire: Wire, gate: FakeGate | None = None, limits: TenantLimits | None = None) -> Intake:
    deps = deps_of(FakeJobs(a_job()), gate or FakeGate(), FakeModels([a_reply()]))
    return Intake(rows, rows, NoBatches(), wire, deps, limits or no_limits())


def no_limits(
    published: int = 0, left: list[JobId] | None = None, places: int = 10, open_jobs: int | None = None
) -> TenantLimits:
    """Quotas of open jobs where these are limited, and so many urgent jobs of each tenant published."""

    async def unclaimed(*_: object) -> int:
        return published

    async def leave(jobs: Sequence[JobId]) -> None:
        ([] if left is None else left).extend(jobs)

    return TenantLimits(
        quotas=Quotas(
            FakeUsage(), lambda tenant_id: TenantShare(tenant_id=tenant_id, open_jobs=open_jobs), clock=time.monotonic
        ),
        allowances=Allowances(unclaimed, clock=time.monotonic),
        places=CallPlaces(places),
        leave_to_dispatch=leave,
    )


def urgent(number: int) -> NewJob:
    return replace(a_job(), id=JobId(f"job_{number}"), lane=Lane.HIGH)


async def test_an_urgent_job_is_published_and_marked() -> None:
    rows, wire = Rows(), Wire()

    await intake_of(rows, wire).submit(urgent(1))

    assert rows.dispatched == ["job_1"]
    assert wire.sent == [(Lane.HIGH, 1, 1)]


async def test_a_broker_that_is_away_costs_the_next_callers_nothing() -> None:
    rows, wire = Rows(), Wire(broken=True)
    intake = intake_of(rows, wire)

    first = await intake.submit(urgent(1))
    wire.broken = False
    second = await intake.submit(urgent(2))

    assert (first.state, second.state) == (JobState.QUEUED, JobState.QUEUED)
    assert not wire.sent
    assert not rows.dispatched


async def test_urgent_jobs_beyond_the_allowance_are_left_to_fair_dispatch() -> None:
    rows, wire, left = Rows(), Wire(), list[JobId]()
    full = intake_of(rows, wire, limits=no_limits(published=MOST_UNCLAIMED, left=left))

    await full.submit(urgent(1))

    assert (left, rows.dispatched, wire.sent) == (["job_1"], [], [])


@pytest.mark.parametrize("error", [PostgresBusy(), StatementFailed("UndefinedColumn")])
async def test_a_job_that_is_stored_is_accepted_whatever_fails_afterwards(error: Exception) -> None:
    async def fails(*_: object) -> Never:
        raise error

    limits = no_limits(published=MOST_UNCLAIMED)
    counts = replace(limits, allowances=Allowances(fails, clock=time.monotonic))
    leaves = replace(limits, leave_to_dispatch=fails)

    for failing in (counts, leaves):
        assert (await intake_of(Rows(), Wire(), limits=failing).submit(urgent(1))).job_id == "job_1"


async def test_a_published_job_that_cannot_be_marked_is_accepted() -> None:
    assert (await intake_of(Unmarkable(), Wire()).submit(urgent(1))).job_id == "job_1"


def test_a_call_without_a_place_is_told_so_and_stores_nothing() -> None:
    limits, rows = no_limits(places=1), Rows()
    intake = intake_of(rows, Wire(), limits=limits)

    async def second_call() -> None:
        async with limits.places.held(TenantId("default"), 0):
            await intake.complete(a_job())

    with pytest.raises(ShareUsedUp):
        in_virtual_time(second_call())

    assert rows.inserted == 0


def test_a_job_that_is_stored_is_accepted_again_at_the_quota() -> None:
    known = Submission(job_id=JobId("job_0"), state=JobState.RUNNING, generation=0, lane=Lane.HIGH, repeated=True)

    async def both(rows: Rows) -> tuple[Submission, JobResult]:
        intake = intake_of(rows, Wire(), limits=no_limits(open_jobs=0))
        return await intake.submit(urgent(1)), await intake.complete(a_job())

    accepted, rested = in_virtual_time(both(Rows(named=known)))
    assert (accepted, rested.job_id, rested.state) == (known, "job_0", JobState.COMPLETED)
    with pytest.raises(QuotaReached):
        in_virtual_time(both(Rows()))


def test_an_answer_that_is_stored_waits_for_no_place() -> None:
    known = Submission(job_id=JobId("job_0"), state=JobState.COMPLETED, generation=0, lane=Lane.HIGH, repeated=True)
    limits, rows = no_limits(places=1), Rows(named=known)

    async def second_call() -> tuple[JobResult, float]:
        async with limits.places.held(TenantId("default"), 0):
            began = asyncio.get_running_loop().time()
            rested = await intake_of(rows, Wire(), limits=limits).complete(a_job())
            return rested, asyncio.get_running_loop().time() - began

    rested, seconds = in_virtual_time(second_call())

    assert (rested.job_id, seconds, rows.inserted) == ("job_0", 0, 0)


async def test_a_refusal_is_told_in_words_and_its_job_is_cancelled() -> None:
    rows = Rows()
    gate = FakeGate(answers=[Refusal(reason=RefusalReason.BUDGET, scope="tenant:acme")])

    rested = await intake_of(rows, Wire(), gate).complete(a_job())

    assert (rested.dead_reason, rested.message) == ("budget", "The budget tenant:acme is spent.")
    assert rows.cancelled == ["job_1"]


async def test_a_wait_beyond_patience_is_told_by_its_limit() -> None:
    gate = FakeGate(answers=[Wait(retry_after_ms=60_000, reason=WaitReason.TOKENS)])

    rested = await intake_of(Rows(), Wire(), gate).complete(a_job())

    assert rested.dead_reason == "tokens_per_minute"


async def test_a_call_that_waited_for_a_limit_says_how_long() -> None:
    gate = FakeGate(answers=[Wait(retry_after_ms=3_000, reason=WaitReason.REQUESTS)])

    rested = await intake_of(Rows(), Wire(), gate).complete(a_job())

    assert rested.state is JobState.COMPLETED
    assert rested.wait_ms >= 3_000
