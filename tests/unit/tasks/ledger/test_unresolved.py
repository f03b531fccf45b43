"""When an account is asked for a lost call, and who is said to resolve it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from schemas.admission import Grant, Settlement
from schemas.ids import AttemptId, JobId, TenantId
from schemas.job import Target
from schemas.money import NanoUsd
from schemas.states import JobState
from storage.ledger.unresolved import ResolvedCharge, SuspenseView
from tasks.ledger.reconciliation import PRESUME_AFTER_SECONDS
from tasks.ledger.unresolved import LOOK_AGES, Suspense, next_look, turns

SINCE = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("age_seconds", "next_seconds"),
    [(0, 10), (9.9, 10), (10, 20), (19.9, 20), (20, 40), (3_600, 5_120), (-5, 10), (40_960, 81_920)],
)
def test_looks_come_at_ages_that_double(age_seconds: float, next_seconds: float) -> None:
    now = SINCE + timedelta(seconds=age_seconds)

    assert next_look(SINCE, now) == SINCE + timedelta(seconds=next_seconds)


def test_the_last_look_comes_before_the_presumption() -> None:
    assert next_look(SINCE, SINCE + timedelta(seconds=81_920)) is None
    assert timedelta(seconds=PRESUME_AFTER_SECONDS / 2) < LOOK_AGES[-1] < timedelta(seconds=PRESUME_AFTER_SECONDS)


@pytest.mark.parametrize("pause_seconds", [1, 5, 9, 700, 50_000])
def test_of_all_looks_whatever_the_pauses_between_them_each_turn_is_in_one(pause_seconds: int) -> None:
    moments = [SINCE + timedelta(seconds=n) for n in range(0, 200 * pause_seconds, pause_seconds)]

    found = [
        until
        for after, until in pairwise(moments)
        if any(span.after < SINCE <= span.until for span in turns(after, until))
    ]

    assert found == sorted(
        {next(m for m in moments if m >= SINCE + age) for age in LOOK_AGES if SINCE + age <= moments[-1]}
    )


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

    async def resolve(self, attempt_id: AttemptId, billed_nano_usd: NanoUsd | None) -> ResolvedCharge | None:
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
