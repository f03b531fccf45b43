"""Windows are named as people in their timezone live them, and a job meets the budgets of its scopes only."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from schemas.admission import BudgetCounter, Step
from schemas.errors import InvalidSetting
from schemas.ids import BatchId, TenantId
from schemas.money import NanoUsd
from tasks.budgets.counters import (
    Budget,
    Window,
    budget_of,
    counters_for,
    pace_of,
    paced_limit,
    window_ends_at,
    window_name,
    window_starts_at,
)
from tests.support.fakes import a_job

BERLIN, KOLKATA, HONOLULU = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata"), ZoneInfo("Pacific/Honolulu")
NOW = datetime(2026, 11, 30, 23, 30, tzinfo=UTC)


def budget(scope: str, window: Window = Window.DAY) -> Budget:
    return Budget(scope=scope, window=window, limit_nano_usd=NanoUsd(1), timezone=ZoneInfo("UTC"))


@pytest.mark.parametrize(
    ("window", "zone", "name"),
    [
        (Window.DAY, BERLIN, "2026-12-01@Europe/Berlin"),
        (Window.DAY, HONOLULU, "2026-11-30@Pacific/Honolulu"),
        (Window.MONTH, KOLKATA, "2026-12@Asia/Kolkata"),
        (Window.MONTH, HONOLULU, "2026-11@Pacific/Honolulu"),
        (Window.HOUR, KOLKATA, "2026-12-01T05+0530@Asia/Kolkata"),
    ],
)
def test_a_window_is_the_one_people_there_live_in(window: Window, zone: ZoneInfo, name: str) -> None:
    assert window_name(window, zone, NOW) == name


def test_the_hour_that_comes_twice_is_two_windows() -> None:
    first = window_name(Window.HOUR, BERLIN, datetime(2026, 10, 25, 0, 30, tzinfo=UTC))
    second = window_name(Window.HOUR, BERLIN, datetime(2026, 10, 25, 1, 30, tzinfo=UTC))

    assert first != second


def test_a_job_counts_against_its_own_scopes_only() -> None:
    job = a_job(tenant_id=TenantId("acme"), user="u1", batch_id=BatchId("batch_1"), prompt="summary")
    wanted = ("global", "tenant", "tenant:other", "user:u1", "user:u2", "batch", "prompt:summary", "prompt:other")
    budgets = [budget(scope) for scope in wanted]

    scopes = [counter.scope for counter in counters_for(job, budgets, NOW)]

    assert scopes == ["global", "tenant:acme", "user:acme/u1", "batch:batch_1", "prompt:acme/summary"]


@pytest.mark.parametrize("wanted", ["user", "user:carol"])
def test_users_of_two_tenants_count_apart_whatever_their_names(wanted: str) -> None:
    jobs = [a_job(tenant_id=TenantId(tenant), user="carol") for tenant in ("a", "b")]
    odd = a_job(tenant_id=TenantId("b"), user="a/carol")

    scopes = [counter.scope for job in jobs for counter in counters_for(job, [budget(wanted)], NOW)]

    assert scopes == ["user:a/carol", "user:b/carol"]
    assert "user:a/carol" not in [counter.scope for counter in counters_for(odd, [budget("user")], NOW)]


def test_a_budget_of_one_tenants_user_counts_nobody_elses() -> None:
    budgets = [budget("user:a/carol"), budget("prompt:a/summary")]
    own, other = (a_job(tenant_id=TenantId(tenant), user="carol", prompt="summary") for tenant in ("a", "b"))

    assert [counter.scope for counter in counters_for(own, budgets, NOW)] == ["user:a/carol", "prompt:a/summary"]
    assert counters_for(other, budgets, NOW) == ()


@pytest.mark.parametrize(
    ("scope", "strictest"),
    [("user:a/carol", 2), ("user:b/carol", 3), ("user:b/dave", 4), ("user:b/a/carol", 2), ("user:carol", None)],
)
def test_a_counter_belongs_to_the_strictest_budget_that_covers_it(scope: str, strictest: int | None) -> None:
    limits = {"user": 4, "user:carol": 3, "user:a/carol": 2}
    budgets = [replace(budget(each), limit_nano_usd=NanoUsd(limit)) for each, limit in limits.items()]
    window = window_name(Window.DAY, ZoneInfo("UTC"), NOW)

    found = budget_of(BudgetCounter(scope=scope, window=window, limit_nano_usd=NanoUsd(1)), budgets, NOW)

    assert (found and found.limit_nano_usd) == strictest


def test_a_scope_that_the_job_has_not_is_left_out() -> None:
    assert counters_for(a_job(), [budget("user"), budget("batch")], NOW) == ()


def test_more_than_eight_counters_are_refused_by_name() -> None:
    with pytest.raises(InvalidSetting, match="9 budgets"):
        counters_for(a_job(), [budget("global")] * 9, NOW)


@pytest.mark.parametrize(
    ("window", "zone", "now", "end"),
    [
        (Window.HOUR, "Asia/Kolkata", "2026-11-24T10:15:00+00:00", "2026-11-24T10:30:00+00:00"),
        (Window.DAY, "Europe/Berlin", "2026-03-29T00:30:00+00:00", "2026-03-29T22:00:00+00:00"),
        (Window.DAY, "America/New_York", "2026-11-01T12:00:00+00:00", "2026-11-02T05:00:00+00:00"),
        (Window.MONTH, "UTC", "2026-12-31T23:59:59+00:00", "2027-01-01T00:00:00+00:00"),
        (Window.MONTH, "Asia/Tokyo", "2026-01-31T15:00:00+00:00", "2026-02-28T15:00:00+00:00"),
    ],
)
def test_a_window_ends_when_people_in_its_zone_say_so(window: Window, zone: str, now: str, end: str) -> None:
    found = window_ends_at(window, ZoneInfo(zone), datetime.fromisoformat(now))

    assert found == datetime.fromisoformat(end)


BOTH_CHANGES = ("2026-03-07T20:00", "2026-03-28T20:00", "2026-10-03T10:00", "2026-10-24T20:00", "2026-10-31T20:00")


@pytest.mark.parametrize("window", list(Window))
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana"])
@pytest.mark.parametrize("begin", [*BOTH_CHANGES, "2026-01-30T20:00", "2028-02-28T12:00", "2026-12-31T00:00"])
def test_windows_follow_each_other_without_gap_or_overlap(window: Window, zone: str, begin: str) -> None:
    where, first = ZoneInfo(zone), datetime.fromisoformat(begin).replace(tzinfo=UTC)

    for quarter in range(4 * 40):
        now = first + timedelta(minutes=15 * quarter)
        name, end = window_name(window, where, now), window_ends_at(window, where, now)

        assert end > now
        assert window_starts_at(window, where, end) == end
        assert window_ends_at(window, where, start := window_starts_at(window, where, now)) == end
        assert start <= now
        assert window_name(window, where, end - timedelta(microseconds=1)) == name
        assert window_name(window, where, end) != name


def test_a_counter_knows_when_it_turns_and_what_follows_its_exhaustion() -> None:
    own = replace(budget("tenant"), on_exhausted=(Step.CHEAPER,))

    of_lane, of_budget = counters_for(a_job(), [budget("global"), own], NOW, (Step.CACHED, Step.REJECT))

    assert of_lane.ends_at == datetime(2026, 12, 1, tzinfo=UTC)
    assert (of_lane.on_exhausted, of_budget.on_exhausted) == ((Step.CACHED, Step.REJECT), (Step.CHEAPER,))


def paced(window: Window = Window.DAY, ahead: float = 0.25) -> Budget:
    return replace(budget("global", window), timezone=BERLIN, ahead=ahead)


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-03-30", 24), ("2026-10-25", 25)])
def test_the_pace_of_a_day_runs_over_all_of_its_hours(day: str, hours: int) -> None:
    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=BERLIN)

    pace = pace_of(paced(), noon)

    assert pace is not None
    assert pace.starts_at == datetime.fromisoformat(f"{day}T00:00").replace(tzinfo=BERLIN)
    assert pace.ends_at - pace.starts_at == timedelta(hours=hours)


def test_a_pace_begins_with_its_part_ahead_and_ends_with_all_of_the_limit() -> None:
    pace = pace_of(paced(), NOW)
    assert pace is not None
    length = pace.ends_at - pace.starts_at

    allowed = [paced_limit(NanoUsd(1_000), pace, pace.starts_at + length * part) for part in (0, 0.5, 0.75, 1)]

    assert allowed == [250, 750, 1_000, 1_000]


def test_a_counter_of_a_paced_budget_carries_its_pace_and_others_none() -> None:
    [with_pace, without] = counters_for(a_job(), [paced(), budget("tenant")], NOW)

    assert with_pace.pace == pace_of(paced(), NOW)
    assert without.pace is None
