"""When an account is asked for a lost call, and who is said to resolve it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from schemas.admission import Grant, Settlement
from schemas.ids import AttemptId, JobId, TenantId
from schemas.job import Target
from schemas.money import NanoUsd
from schemas.states import JobState
from storage.suspense import Standing, SuspenseView
from tasks.suspense import Suspense, looks_by, next_look

SINCE = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("age_seconds", "looks", "next_seconds"),
    [(0, 0, 10), (9.9, 0, 10), (10, 1, 20), (19.9, 1, 20), (20, 2, 40), (3_600, 9, 5_120), (-5, 0, 10)],
)
def test_looks_come_at_ages_that_double(age_seconds: float, looks: int, next_seconds: float) -> None:
    now = SINCE + timedelta(seconds=age_seconds)

    assert looks_by(SINCE, now) == looks
    assert next_look(SINCE, now) == SINCE + timedelta(seconds=next_seconds)


class OneRow:
    """One call that was lost an hour ago, of a job in this state."""

    def __init__(self, job_state: JobState) -> None:
        grant = Grant(
            stamp="s",
            wait_ms=0,
            tokens=1,
            cost_nano_usd=NanoUsd(5),
            target=Target(account="keeper", model="m"),
            epoch=1,
        )
        self._view = SuspenseView(
            id=AttemptId("att_1"),
            job_id=JobId("job_1"),
            job_state=job_state,
            tenant_id=TenantId("default"),
            outcome="worker_lost",
            grant=grant,
            opened_at=SINCE - timedelta(minutes=1),
            since_at=SINCE,
        )

    async def oldest(self, *, after: AttemptId | None = None, most: int = 50) -> Sequence[SuspenseView]:
        return [self._view]

    async def resolve(self, attempt_id: AttemptId, billed_nano_usd: NanoUsd | None) -> Standing | None:
        raise AssertionError


async def settled(settlement: Settlement) -> bool:
    raise AssertionError


@pytest.mark.parametrize(
    ("job_state", "keeping", "hours", "by", "at"),
    [
        (JobState.QUEUED, ["keeper"], 1, "its job", None),
        (JobState.DEAD, ["keeper"], 1, "look-up", SINCE + timedelta(seconds=5_120)),
        (JobState.DEAD, ["keeper"], 23, "look-up", SINCE + timedelta(hours=24, minutes=-1)),
        (JobState.QUEUED, [], 1, "presumption", SINCE + timedelta(hours=24, minutes=-1)),
    ],
)
async def test_who_will_resolve_it_is_said(
    job_state: JobState, keeping: list[str], hours: float, by: str, at: datetime | None
) -> None:
    now = SINCE + timedelta(hours=hours)

    [row] = await Suspense(OneRow(job_state), settled, keeping=keeping, now=lambda: now).oldest(after=None, most=1)

    assert (row["resolved_by"], row["resolved_at"], row["why"]) == (by, at, "its worker died during the call")
