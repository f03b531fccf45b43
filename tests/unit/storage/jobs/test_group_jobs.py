"""What single jobs write through their groups: it waits for Postgres, and leaves out content."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from schemas.attempt import AttemptState, ClosedAttempt, OpenedAttempt
from schemas.decision import DeadLetter, DeadReason, Expire
from schemas.errors import PostgresUnavailable
from schemas.ids import AttemptId, JobId
from schemas.job import Lease
from schemas.money import NanoUsd
from storage.database.outage import OutageRetry
from storage.jobs.claims import Claim
from storage.jobs.group_jobs import GroupedJobs
from storage.jobs.record import Record
from tests.support.fakes import an_opened, no_pause

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = Lease(job_id=JobId("job_1"), fence=1, holder="w", until_at=NOW)
SECRET = "Ann"


class Table:
    """Remembers what it is asked to write; away, it fails that often after the write, as when a reply is lost."""

    def __init__(self, away: int = 0) -> None:
        self.written: list[object] = []
        self.away = away

    async def hold(self, claims: Sequence[Claim]) -> list[None]:
        return [None for _ in self._write(claims)]

    async def open(self, attempts: Sequence[OpenedAttempt]) -> list[bool]:
        return [True for _ in self._write(attempts)]

    async def record(self, records: Sequence[Record]) -> list[bool]:
        return [True for _ in self._write(records)]

    async def hand_back(self, leases: Sequence[Lease]) -> list[bool]:
        return [True for _ in self._write(leases)]

    async def suspended(self, job_id: JobId) -> list[OpenedAttempt]:
        self._write([job_id])
        return []

    def _write(self, items: Sequence[object]) -> Sequence[object]:
        self.written += items
        if self.away:
            self.away -= 1
            raise PostgresUnavailable
        return items


class Renewal:
    """Remembers whose leases are renewed no more."""

    def __init__(self) -> None:
        self.stopped: list[Lease] = []

    @asynccontextmanager
    async def renewing(self, _lease: Lease) -> AsyncIterator[None]:
        yield

    def stop_renewing(self, lease: Lease) -> None:
        self.stopped.append(lease)


def grouped(
    table: Table,
    most_seconds: float | None = None,
    *,
    pause: Callable[[float], Awaitable[None]] = no_pause,
    store_content: bool = True,
    renewal: Renewal | None = None,
) -> GroupedJobs:
    retry = OutageRetry(most_seconds=most_seconds, pause=pause, jitter=lambda: 0.5)
    return GroupedJobs(table, renewal or Renewal(), retry=retry, store_content=store_content)


async def test_a_lease_is_renewed_no_more_once_it_is_recorded() -> None:
    renewal = Renewal()

    await grouped(Table(), renewal=renewal).record(LEASE, None, Expire())

    assert renewal.stopped == [LEASE]


async def test_a_reply_waits_for_postgres() -> None:
    table = Table(away=3)

    with capture_logs() as logs:
        assert await grouped(table).record(LEASE, None, Expire())

    assert table.written == [Record(lease=LEASE, closed=None, decision=Expire())] * 4
    assert [event["event"] for event in logs] == ["jobs_wait_for_postgres", "jobs_have_postgres"]


async def test_attempts_and_look_ups_wait_for_postgres() -> None:
    table = Table(away=1)
    jobs = grouped(table)

    assert await jobs.open(an_opened())
    table.away = 1
    assert await jobs.suspended(LEASE.job_id) == []


async def test_a_caller_on_the_line_does_not_wait_for_ever() -> None:
    table = Table(away=1_000)

    with pytest.raises(PostgresUnavailable):
        await grouped(table, most_seconds=3.0).record(LEASE, None, Expire())

    assert len(table.written) == 6  # after pauses of 0.1, 0.2, 0.4, 0.8 and 1.6 s


async def test_each_write_has_a_wait_of_its_own() -> None:
    table = Table(away=7)
    jobs = grouped(table, most_seconds=3.0)

    with pytest.raises(PostgresUnavailable):
        await jobs.record(LEASE, None, Expire())
    assert await jobs.record(LEASE, None, Expire())


async def test_a_claim_is_repeated_under_its_name_and_each_has_its_own() -> None:
    table = Table(away=2)
    jobs = grouped(table)

    await jobs.hold(LEASE.job_id, 0)
    await jobs.hold(LEASE.job_id, 0)

    first, again, last, other = [claim.name for claim in table.written if isinstance(claim, Claim)]
    assert first == again == last != other


async def test_a_write_whose_caller_is_gone_is_not_repeated() -> None:
    table, pausing, may_go_on = Table(away=1), asyncio.Event(), asyncio.Event()

    async def pause(_: float) -> None:
        pausing.set()
        await may_go_on.wait()

    opening = asyncio.create_task(grouped(table, pause=pause).open(an_opened()))
    await pausing.wait()
    opening.cancel()
    await asyncio.wait([opening])
    may_go_on.set()
    for _ in range(20):
        await asyncio.sleep(0)

    assert len(table.written) == 1


async def test_handing_back_does_not_wait_for_postgres() -> None:
    table = Table(away=1)

    with pytest.raises(PostgresUnavailable):
        await grouped(table).hand_back(LEASE)


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
