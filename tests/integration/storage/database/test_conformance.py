"""The real jobs behind their group commits pass what the pipeline's fake passes."""

from datetime import UTC, datetime

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import new_job
from schemas.decision import Decision
from storage.jobs.group_jobs import GroupedJobs
from storage.jobs.writes import JobTable
from storage.ledger.ledger import LedgerTable
from tasks.execution.heartbeats import LeaseKeeper
from tests.support.conformance import ENDS, JobsCase, JobsConformance


class TestGroupedJobs(JobsConformance):
    @pytest.fixture
    async def case(self, engine: AsyncEngine) -> JobsCase:
        table, ledger, job = JobTable(engine, holder="w", lease_seconds=30), LedgerTable(engine), new_job()
        await table.insert([job])

        async def lose_fence() -> None:
            assert await table.cancel(job.id, None)

        async def pass_epoch() -> None:
            await ledger.rebuild(datetime.now(UTC))

        return JobsCase(
            jobs=GroupedJobs(table, LeaseKeeper(table.renew, every_seconds=60)),
            job_id=job.id,
            epoch=await ledger.epoch(),
            lose_fence=lose_fence,
            pass_epoch=pass_epoch,
        )

    @pytest.fixture(params=ENDS, ids=lambda end: type(end).__name__)
    def end(self, request: pytest.FixtureRequest) -> Decision:
        decision: Decision = request.param
        return decision
