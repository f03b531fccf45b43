"""The demo's figures and words, from answers written by hand."""

from dataclasses import replace

from cli.demo.reading import Reading, block, last_line, line, nano_usd, quota_used, settled_nano_usd

READING = Reading(
    elapsed_seconds=4.0,
    status="in_progress",
    total=1_200,
    completed=790,
    dead=10,
    reprompted=31,
    spent_nano_usd=123_400_000,
    lanes={"normal": 400},
    quota={"requests_per_minute": 0.97},
)


def test_the_last_line_has_the_form_that_others_rely_on() -> None:
    ended = replace(READING, completed=1_195, dead=5, spent_nano_usd=123_456_789, elapsed_seconds=1_200 / 88.44)

    told = last_line(ended)

    assert told == "demo: completed=1195 dead=5 spent_usd=0.123457 jobs_per_second=88.4"


def test_a_line_tells_lanes_quota_spend_completed_reprompted_and_dead() -> None:
    told = line(READING)

    for part in ("completed 790/1200", "reprompted 31", "dead 10", "0.1234 USD", "97%", "normal=400"):
        assert part in told
    for part in ("790 of 1200", "reprompted 31", "dead 10", "0.1234 USD", "97%", "normal=400", "200 jobs/s"):
        assert part in block(READING)


def test_nothing_yet_divides_by_nothing() -> None:
    empty = replace(READING, elapsed_seconds=0.0, total=0, completed=0, dead=0, lanes={}, quota={})

    assert empty.jobs_per_second == 0.0
    assert "lanes -" in line(empty)
    assert block(empty)


def test_quota_is_the_fullest_target_of_each_limit() -> None:
    rows = [
        {"limit": "requests_per_minute", "configured": 100, "learned": None, "used": 40},
        {"limit": "requests_per_minute", "configured": 100, "learned": 50, "used": 45},
        {"limit": "tokens_per_minute", "configured": None, "learned": None, "used": 3},
    ]

    assert quota_used(rows) == {"requests_per_minute": 0.9}


def test_spend_is_read_from_the_global_budget() -> None:
    rows = [{"scope": "tenant:a", "settled_usd": "9"}, {"scope": "global", "settled_usd": "0.000000001"}]

    assert settled_nano_usd(rows) == 1
    assert settled_nano_usd([]) == 0
    assert nano_usd("nonsense") == 0
