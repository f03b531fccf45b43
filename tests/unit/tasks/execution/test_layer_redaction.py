"""Without content, nothing that a person or a model wrote is handed on to be stored."""

from datetime import UTC, datetime

from schemas.admission import Grant
from schemas.attempt import AttemptState, ClosedAttempt, OpenedAttempt
from schemas.decision import DeadLetter, DeadReason, Decision
from schemas.ids import AttemptId, JobId
from schemas.job import Lease, Target
from schemas.money import NanoUsd, Price
from tasks.execution.layers.redaction import DiscreetJobs
from tests.support.fakes import FakeJobs

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = "Ann"


class Noting(FakeJobs):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.noted: list[object] = []

    async def open(self, attempt: OpenedAttempt) -> bool:
        self.noted.append(attempt)
        return True

    async def record(self, lease: Lease, closed: ClosedAttempt | None, decision: Decision) -> bool:
        self.noted += [closed, decision]
        return True


async def test_no_request_no_reply_and_no_quotation_is_stored() -> None:
    inner, target = Noting(), Target(account="a", model="m")
    jobs = DiscreetJobs(inner)
    grant = Grant(stamp="s", wait_ms=0, tokens=1, cost_nano_usd=NanoUsd(1), target=target, epoch=1)
    opened = OpenedAttempt(
        id=AttemptId("att_1"),
        job_id=JobId("job_1"),
        fence=1,
        target=target,
        grant=grant,
        price=Price(input_nano_usd=1, cached_input_nano_usd=1, output_nano_usd=1, source="test"),
        request={"messages": SECRET},
        opened_at=NOW,
    )
    closed = ClosedAttempt(
        id=opened.id,
        state=AttemptState.POSTED,
        outcome="invalid",
        cost_nano_usd=NanoUsd(1),
        closed_at=NOW,
        reply={"text": SECRET},
        error={"kind": "cut", "message": f"it said '{SECRET}'", "partial_text": SECRET},
        complaint=f"price: '{SECRET}' is not of type 'number'",
    )
    lease = Lease(job_id=opened.job_id, fence=1, holder="w", until_at=NOW)

    await jobs.open(opened)
    await jobs.record(lease, closed, DeadLetter(reason=DeadReason.REFUSED, message=f"No word on {SECRET}"))

    assert SECRET not in repr(inner.noted)
    assert "price: a string where a number belongs" in repr(inner.noted)
