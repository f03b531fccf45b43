"""The parts of the room without Redis: layouts, names, readings, and how long things are kept."""

import re
import struct
from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.balances import DAY_SECONDS, retention_seconds
from admission.days import DayResets
from admission.health import complaints
from admission.learning import Lesson, Reading, read_penalty, read_requests, read_tokens
from admission.limits import HIGHEST_SUM_OF_SHARES, fitting_shares
from admission.scripts import ADMIT, CONFIGURE, EXPIRE, LIMIT, PENALIZE, REBUILD, SETTLE, Script
from admission.stamps import read_stamp
from admission.state import FIELDS, FORMAT, MOMENTS, SIZE, lua_layout, pack, unpack
from schemas.admission import LimitFigures, LimitHeaders, Penalty, WaitReason
from schemas.lanes import Lane
from tasks.budgets.counters import Window, window_name

SCRIPTS = [ADMIT, CONFIGURE, EXPIRE, LIMIT, PENALIZE, REBUILD, SETTLE]
NOW = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


@given(st.data())
def test_what_is_packed_is_unpacked(data: st.DataObject) -> None:
    number = st.floats(allow_nan=False)
    values = {name: data.draw(st.tuples(*[number] * width)) for name, width in FIELDS.items()}

    assert unpack(pack(values)) == values


def test_fields_that_are_not_named_are_zero() -> None:
    assert {value for values in unpack(pack({})).values() for value in values} == {0.0}


def test_a_string_of_another_layout_is_refused() -> None:
    with pytest.raises(struct.error):
        unpack(struct.pack(FORMAT, *[0.0] * SIZE)[:-8])


def test_lua_is_told_the_same_offsets() -> None:
    told = {name: int(at) for name, at in re.findall(r"local (\w+) = (\d+)$", lua_layout(), re.MULTILINE)}
    doubles = struct.unpack(FORMAT, pack({"version": (7.0,), "burst": (8.0,), "tat": (1.0, 2.0, 3.0, 4.0)}))

    assert doubles[told["VERSION"] - 1] == 7.0
    assert doubles[told["BURST"] - 1] == 8.0
    assert [doubles[told["TAT"] + d - 1] for d in (1, 2, 3, 4)] == [1.0, 2.0, 3.0, 4.0]


def test_every_moment_moves_with_the_clock() -> None:
    assert {name for name in FIELDS if name.endswith(("_at", "_until"))} | {"tat", "share_tat", "ticket"} == set(
        MOMENTS
    )


def test_a_stamp_says_whose_it_is_even_when_the_id_has_bars() -> None:
    stamp = read_stamp("a|b|100|9007199254740993|30|1|100|0")

    assert (stamp.attempt_id, stamp.tokens, stamp.cost_nano_usd) == ("a|b", 100, 9_007_199_254_740_993)
    with pytest.raises(ValueError, match="unpack"):
        read_stamp("nonsense")


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Argentina/ComodRivadavia", "Asia/Kolkata"])
@pytest.mark.parametrize(("window", "longest_days"), [(Window.HOUR, 1), (Window.DAY, 2), (Window.MONTH, 32)])
def test_a_counter_outlives_its_window_whatever_the_zone_is_called(
    window: Window, longest_days: int, zone: str
) -> None:
    kept_days = retention_seconds(window_name(window, ZoneInfo(zone), NOW)) / DAY_SECONDS

    assert kept_days >= longest_days + 1


def test_short_windows_are_not_kept_for_months() -> None:
    berlin = ZoneInfo("Europe/Berlin")

    assert retention_seconds(window_name(Window.HOUR, berlin, NOW)) == 3 * DAY_SECONDS
    assert retention_seconds(window_name(Window.DAY, berlin, NOW)) == 8 * DAY_SECONDS


@pytest.mark.parametrize("name", ["", "for ever", "2026", "2026-W47", "week of 2026-11-24"])
def test_a_window_of_any_other_name_is_kept_longest(name: str) -> None:
    assert retention_seconds(name) == 64 * DAY_SECONDS


@pytest.mark.parametrize(
    ("headers", "reading"),
    [
        (LimitHeaders(), Reading(2)),
        (LimitHeaders(limit_tokens=10_000, remaining_tokens=9_481, reset_tokens_ms=3_114), Reading(2, 9_481, 10_000)),
        (
            LimitHeaders(limit_tokens=10_000, remaining_tokens=9_000, reset_tokens_ms=8_640_000),
            Reading(4, 9_000, 10_000),
        ),
        (LimitHeaders(limit_tokens=10_000, remaining_tokens=9_000, reset_tokens_ms=1_000), Reading(2)),
        (LimitHeaders(limit_tokens=10_000, remaining_tokens=9_999, reset_tokens_ms=4), Reading(2, 9_999)),
        (LimitHeaders(limit_tokens=10_000, remaining_tokens=9_000), Reading(2, 9_000)),
        (LimitHeaders(limit_tokens=10_000, remaining_tokens=10_000, reset_tokens_ms=0), Reading(2)),
        (LimitHeaders(limit_tokens=10_000, remaining_tokens=-1, reset_tokens_ms=1_000), Reading(2)),
        (LimitHeaders(limit_tokens=0, remaining_tokens=0, reset_tokens_ms=0), Reading(2)),
        (LimitHeaders(limit_tokens=-1, remaining_tokens=5), Reading(2)),
        (LimitHeaders(remaining_tokens=7), Reading(2, 7)),
    ],
)
def test_headers_are_read_by_their_arithmetic(headers: LimitHeaders, reading: Reading) -> None:
    assert read_tokens(headers) == reading


def test_a_daily_request_limit_is_known_by_its_reset() -> None:
    headers = LimitHeaders(limit_requests=10_000, remaining_requests=9_999, reset_requests_ms=8_640)

    assert read_requests(headers) == Reading(3, 9_999, 10_000)


@given(st.dictionaries(st.sampled_from(Lane), st.floats(-1, 5)))
def test_shares_always_leave_a_tenth_to_critical(wanted: dict[Lane, float]) -> None:
    shares = fitting_shares(wanted)

    assert shares[0] == 0.0
    assert min(shares) >= 0.0
    assert sum(shares) <= HIGHEST_SUM_OF_SHARES + 1e-9


class Memory:
    """A server that answers with this INFO."""

    def __init__(self, **info: str) -> None:
        self._info = info

    async def command(self, *_: object) -> dict[str, str]:
        return self._info


async def test_a_redis_that_evicts_may_not_hold_money() -> None:
    assert await complaints(Memory(maxmemory_policy="noeviction")) == await complaints(Memory()) == []
    assert len(await complaints(Memory(maxmemory_policy="volatile-ttl"))) == 1


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_no_script_builds_the_name_of_a_key(script: Script) -> None:
    called = re.findall(r"redis\.call\('(\w+)',?\s*([^,)]*)", script.source)

    assert called
    for command, first in called:
        assert command == "TIME" or re.fullmatch(r"KEYS\[[^\]]+\]|(\w+_)?key", first), (command, first)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_no_script_writes_money_or_moments_through_tostring(script: Script) -> None:
    assert re.findall(r"tostring\((?!j - 1\))", script.source) == []


MINUTE_429 = LimitFigures(limit=12_000, used=12_000, requested=1, wait_ms=5)
MONTH_429 = LimitFigures(limit=100_000, used=99_918, requested=2_094, wait_ms=52_151_040)


@pytest.mark.parametrize(
    ("limit", "figures", "lesson"),
    [
        (WaitReason.REQUESTS, MINUTE_429, Lesson(1, 5_000.0)),
        (
            WaitReason.TOKENS,
            LimitFigures(limit=60_000, used=59_918, requested=2_094, wait_ms=2_012),
            Lesson(2, 1_000.0),
        ),
        (WaitReason.REQUESTS, LimitFigures(limit=10_000, used=10_000, requested=1, wait_ms=8_640), Lesson(3, 8.64e6)),
        (WaitReason.TOKENS, MONTH_429, Lesson(4, 52_151_040_000 / 2_012)),
        (WaitReason.TOKENS, LimitFigures(limit=100, used=0, requested=500, wait_ms=5), Lesson(2)),
        (WaitReason.TOKENS, None, Lesson(2)),
        (WaitReason.IN_FLIGHT, MINUTE_429, Lesson(0)),
        (None, MINUTE_429, Lesson(0)),
    ],
)
def test_a_refusal_teaches_the_rate_that_its_figures_come_to(
    limit: WaitReason | None, figures: LimitFigures | None, lesson: Lesson
) -> None:
    learned = read_penalty(Penalty(wait_ms=1, limit=limit, figures=figures))

    assert learned.dimension == lesson.dimension
    assert learned.interval_us == pytest.approx(lesson.interval_us)


@pytest.mark.parametrize(
    ("now", "first", "second"),
    [
        ("2026-11-24T12:00+00:00", "2026-11-25T00:00-08:00", "2026-11-26T00:00-08:00"),
        ("2026-11-25T08:00+00:00", "2026-11-26T00:00-08:00", "2026-11-27T00:00-08:00"),
        ("2026-03-08T08:00+00:00", "2026-03-09T00:00-07:00", "2026-03-10T00:00-07:00"),
        ("2026-11-01T07:30+00:00", "2026-11-02T00:00-08:00", "2026-11-03T00:00-08:00"),
    ],
)
def test_a_day_ends_at_its_hour_whatever_the_clocks_do(now: str, first: str, second: str) -> None:
    midnight = DayResets(at=time(0), zone=ZoneInfo("America/Los_Angeles"))

    ends = midnight.ends_after(datetime.fromisoformat(now))

    assert [end.timestamp() for end in ends] == [datetime.fromisoformat(each).timestamp() for each in (first, second)]
