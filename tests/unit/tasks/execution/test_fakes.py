"""The pipeline's fakes pass what the real gate and the real jobs pass."""

import pytest

from schemas.decision import Decision
from tests.support.conformance import ENDS, GateConformance, JobsCase, JobsConformance
from tests.support.fakes import FakeGate, FakeJobs, a_job


class TestFakeGate(GateConformance):
    @pytest.fixture
    def gate(self) -> FakeGate:
        return FakeGate()


class TestFakeJobs(JobsConformance):
    @pytest.fixture
    def case(self) -> JobsCase:
        jobs = FakeJobs(a_job())

        async def lose_fence() -> None:
            jobs.fence_lost = True

        async def pass_epoch() -> None:
            jobs.epoch_passed = True

        return JobsCase(jobs=jobs, job_id=jobs.job.id, epoch=1, lose_fence=lose_fence, pass_epoch=pass_epoch)

    @pytest.fixture(params=ENDS, ids=lambda end: type(end).__name__)
    def end(self, request: pytest.FixtureRequest) -> Decision:
        decision: Decision = request.param
        return decision
