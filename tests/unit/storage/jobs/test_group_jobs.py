"""What single jobs write through their groups: without content where none may be stored."""

from collections.abc import Sequence
from datetime import UTC, datetime

from schemas.attempt import AttemptState, ClosedAttempt, OpenedAttempt
from schemas.decision import DeadLetter, DeadReason
from schemas.ids import AttemptId, JobId
from schemas.job import Lease
from schemas.money import NanoUsd
from storage.jobs.group_jobs import GroupedJobs
from storage.jobs.record import Record
from tasks.execution.heartbeats import LeaseKeeper
from tests.support.fakes import an_opened

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = Lease(job_id=JobId("job_1"), fence=1, holder="w", until_at=NOW)
SECRET = "Ann"


class Table:
    """Remembers what is written."""

    def __init__(self) -> None:
        self.written: list[object] = []

    async def hold(self, claims: Sequence[object]) -> list[None]:
        self.written += claims
        return [None for _ in claims]

    async def open(self, attempts: Sequence[OpenedAttempt]) -> list[bool]:
        self.written += attempts
        return [True for _ in attempts]

    async def record(self, records: Sequence[Record]) -> list[bool]:
        self.written += records
        return [True for _ in records]

    async def hand_back(self, leases: Sequence[Lease]) -> list[bool]:
        self.written += leases
        return [True for _ in leases]


def grouped(table: Table, **options: object) -> GroupedJobs:
    async def renewed(_: object) -> set[JobId]:
        return set()

    return GroupedJobs(table, LeaseKeeper(renewed, every_seconds=60), **options)


async def test_no_request_no_reply_and_no_quotation_is_stored() -> None:
    table = Table()
    jobs = grouped(table, store_content=False)
    closed = ClosedAttempt(
        id=AttemptId("att_1"),
        state=AttemptState.POSTED,
        outcome="invalid",
        cost_nano_usd=NanoUsd(1),
        closed_at=NOW,
        reply={"text": SECRET},
        error={"kind": "cut", "message": f"it said '{SECRET}'", "partial_text": SECRET},
        complaint=f"price: '{SECRET}' is not of type 'number'",
    )

    await jobs.open(an_opened(request={"messages": SECRET}))
    await jobs.record(LEASE, closed, DeadLetter(reason=DeadReason.REFUSED, message=f"No word on {SECRET}"))

    assert SECRET not in repr(table.written)
    assert "price: a string where a number belongs" in repr(table.written)


async def test_content_is_stored_unless_it_may_not_be() -> None:
    table = Table()

    await grouped(table).open(an_opened(request={"messages": SECRET}))

    assert SECRET in repr(table.written)
