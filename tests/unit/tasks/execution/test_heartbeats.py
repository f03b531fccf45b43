"""A lease is renewed while its block runs, and its loss stops the work."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import pytest

from schemas.errors import PostgresUnavailable
from schemas.ids import JobId
from schemas.job import Lease
from tasks.execution.heartbeats import LeaseKeeper

LEASE = Lease(job_id=JobId("job_1"), fence=1, holder="w", until_at=datetime(2026, 1, 1, tzinfo=UTC))


async def test_the_loss_of_a_lease_cancels_its_work() -> None:
    async def nobody(leases: Sequence[Lease]) -> Collection[JobId]:
        return ()

    lease_keeper = LeaseKeeper(nobody, every_seconds=1)

    async def work() -> None:
        async with lease_keeper.renewing(LEASE):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await lease_keeper.renew_all()
    await lease_keeper.renew_all()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert lease_keeper.leases == 0


async def test_a_store_that_is_away_costs_no_work() -> None:
    async def away(leases: Sequence[Lease]) -> Collection[JobId]:
        raise PostgresUnavailable

    lease_keeper = LeaseKeeper(away, every_seconds=1)

    async with lease_keeper.renewing(LEASE):
        await lease_keeper.renew_all()
        assert lease_keeper.leases == 1


async def test_only_leases_in_use_are_renewed() -> None:
    asked: list[Sequence[Lease]] = []

    async def renew(leases: Sequence[Lease]) -> Collection[JobId]:
        asked.append(leases)
        return [lease.job_id for lease in leases]

    lease_keeper = LeaseKeeper(renew, every_seconds=1)
    async with lease_keeper.renewing(LEASE):
        await lease_keeper.renew_all()
    await lease_keeper.renew_all()

    assert asked == [[LEASE]]


async def test_a_job_that_is_just_coming_to_rest_is_not_cancelled() -> None:
    async def nobody(leases: Sequence[Lease]) -> Collection[JobId]:
        return ()

    lease_keeper = LeaseKeeper(nobody, every_seconds=1)

    async with lease_keeper.renewing(LEASE):
        await lease_keeper.renew_all()
        await asyncio.sleep(0)

    assert lease_keeper.leases == 0


async def test_what_is_left_after_a_lease_is_over_is_not_cancelled() -> None:
    asked: list[Sequence[Lease]] = []

    async def nobody(leases: Sequence[Lease]) -> Collection[JobId]:
        asked.append(leases)
        return ()

    lease_keeper = LeaseKeeper(nobody, every_seconds=1)

    async with lease_keeper.renewing(LEASE):
        lease_keeper.stop_renewing(LEASE)
        await lease_keeper.renew_all()
        await lease_keeper.renew_all()
        await asyncio.sleep(0)

    assert asked == []
