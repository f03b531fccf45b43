"""Days that end at an hour, and rises that were too fast, on a real server under a clock of the test's own."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from admission.connect import Admission
from admission.days import DayResets
from admission.gate import ORIGIN
from admission.limits import TargetLimits
from schemas.admission import Penalty, RefusalReason, SettleKind, Settlement, WaitReason
from schemas.job import Target
from tests.support.admission_fixture import TARGET, Clock, an_ask, granted, limits, refused, waiting

MIDNIGHT = DayResets(at=time(0), zone=ZoneInfo("America/Los_Angeles"))
BY_DAY = TargetLimits(target=TARGET, requests_per_day=3, day_resets=MIDNIGHT)


def set_clock(clock: Clock, moment: datetime) -> None:
    clock.now_us = round((moment - ORIGIN) / timedelta(microseconds=1))


@pytest.mark.parametrize(
    ("evening", "hours_left"),
    [
        (datetime(2026, 11, 25, 4, tzinfo=UTC), 4),  # 20:00 in Los Angeles
        (datetime(2026, 11, 1, 8, tzinfo=UTC), 24),  # 01:00 in summer, and midnight is 24 hours away: a day of 25
        (datetime(2026, 3, 8, 9, tzinfo=UTC), 22),  # 01:00 in winter: a day of 23
    ],
)
async def test_a_spent_day_comes_back_at_its_hour_and_not_before(
    admission: Admission, clock: Clock, evening: datetime, hours_left: int
) -> None:
    set_clock(clock, evening)
    await admission.gate.configure(BY_DAY, 1)
    for number in range(3):
        granted(await admission.gate.admit(an_ask(number)))

    spent = waiting(await admission.gate.admit(an_ask("fourth")))
    assert (spent.reason, spent.retry_after_ms) == (WaitReason.REQUESTS_PER_DAY, hours_left * 3_600_000)

    clock.pass_seconds(hours_left * 3_600 - 1)
    assert waiting(await admission.gate.admit(an_ask("early"))).reason is WaitReason.REQUESTS_PER_DAY
    clock.pass_seconds(1)
    for number in range(3):
        granted(await admission.gate.admit(an_ask(f"next {number}")))
    waiting(await admission.gate.admit(an_ask("seventh")))


async def test_what_a_whole_day_cannot_hold_is_refused_and_waits_for_none(admission: Admission) -> None:
    await admission.gate.configure(TargetLimits(target=TARGET, tokens_per_day=1_000), 1)

    assert refused(await admission.gate.admit(an_ask("large", tokens=1_001))).reason is RefusalReason.TOO_LARGE
    granted(await admission.gate.admit(an_ask("whole day", tokens=1_000)))


async def test_what_was_reserved_yesterday_gives_nothing_back_today(admission: Admission, clock: Clock) -> None:
    set_clock(clock, datetime(2026, 11, 25, 7, tzinfo=UTC))
    await admission.gate.configure(BY_DAY, 1)
    late = granted(await admission.gate.admit(an_ask("late")))
    clock.pass_seconds(3_600)

    await admission.gate.settle(Settlement(grant=late, kind=SettleKind.RELEASE))

    for number in range(3):
        granted(await admission.gate.admit(an_ask(number)))
    waiting(await admission.gate.admit(an_ask("fourth")))


async def test_a_day_that_nobody_announced_has_24_hours(admission: Admission, clock: Clock) -> None:
    set_clock(clock, datetime(2026, 11, 25, 7, tzinfo=UTC))
    await admission.gate.configure(BY_DAY, 1)
    clock.pass_seconds(5 * 86_400)
    for number in range(3):
        granted(await admission.gate.admit(an_ask(number)))

    assert waiting(await admission.gate.admit(an_ask("fourth"))).retry_after_ms == 3_600_000


async def test_two_models_of_a_family_share_one_bucket(admission: Admission, clock: Clock) -> None:
    family = TargetLimits(target=TARGET, requests_per_day=2)
    await admission.gate.configure(family, 1)
    grants = [granted(await admission.gate.admit(an_ask(n, target=_model(n), family=TARGET.model))) for n in ("a", "b")]

    waiting(await admission.gate.admit(an_ask("c", target=_model("c"), family=TARGET.model)))

    assert [grant.target for grant in grants] == [_model("a"), _model("b")]
    assert all([await admission.gate.settle(Settlement(grant=one, kind=SettleKind.RELEASE)) for one in grants])
    granted(await admission.gate.admit(an_ask("d", target=_model("d"), family=TARGET.model)))


async def test_a_ramp_halves_the_rate_once_and_lets_it_grow_back_slowly(admission: Admission, clock: Clock) -> None:
    await admission.gate.configure(limits(), 1)

    for _ in range(3):
        await admission.gate.penalize(TARGET, Penalty(wait_ms=1, ramp=True))
    assert await ramp_factor(admission) == pytest.approx(0.5)

    clock.pass_seconds(15 * 60)
    assert await ramp_factor(admission) == pytest.approx(0.75)
    clock.pass_seconds(15 * 60)
    assert await ramp_factor(admission) == 1


async def ramp_factor(admission: Admission) -> float:
    snapshot = await admission.gate.snapshot(TARGET)
    assert snapshot is not None
    assert snapshot.rate_factor == 1
    return snapshot.ramp_factor


def _model(name: str) -> Target:
    return Target(account=TARGET.account, model=f"model-{name}")
