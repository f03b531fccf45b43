"""Durations, counts and pools: what is unreadable is unknown and never zero."""

from datetime import UTC, datetime

import pytest

from providers.account.headers import duration_ms, limits_of, retry_after_ms
from schemas.admission import LimitHeaders

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("12ms", 12),
        ("1s", 1_000),
        ("3.114s", 3_114),
        ("8.64s", 8_640),
        ("6m0s", 360_000),
        ("2m30s", 150_000),
        ("5h50m30ms", 21_000_030),
        ("14h29m11.04s", 52_151_040),
        ("120ms", 120),
        ("350us", 0),
        ("59", 59_000),
        ("0.5", 500),
        ("0", 0),
        ("2026-11-24T12:00:30Z", 30_000),
        ("2026-11-24T14:00:01+02:00", 1_000),
        (" 1s ", 1_000),
    ],
)
def test_durations_are_read(text: str, milliseconds: int) -> None:
    assert duration_ms(text, NOW) == milliseconds


@pytest.mark.parametrize(
    "text",
    [None, "", "-1", "-1s", "soon", "1s later", "5", "ms", "1x", "1d", "2026-11-24T11:00:00Z", "inf", "nan", "9" * 30],
)
def test_nonsense_is_unknown(text: str | None) -> None:
    expected = 5_000 if text == "5" else None

    assert duration_ms(text, NOW) == expected


@pytest.mark.parametrize(
    ("headers", "message", "milliseconds"),
    [
        ({"retry-after-ms": "50", "retry-after": "1"}, "", 50),
        ({"retry-after": "56"}, "", 56_000),
        ({"retry-after": "Tue, 24 Nov 2026 12:00:10 GMT"}, "", 10_000),
        ({"retry-after": "Tue, 24 Nov 2026 11:00:10 GMT"}, "", None),
        ({"retry-after": "tomorrow"}, "", None),
        ({}, "Limit 100000, Used 99918, Requested 2094. Please try again in 14h29m11.04s.", 52_151_040),
        ({}, "Please try again in 20ms. Visit the page", 20),
        ({}, "Please try again later.", None),
        ({}, "", None),
    ],
)
def test_retry_after_is_taken_from_the_most_exact_source(
    headers: dict[str, str], message: str, milliseconds: int | None
) -> None:
    assert retry_after_ms(headers, message, NOW) == milliseconds


def test_all_limits_are_read() -> None:
    headers = {
        "x-ratelimit-limit-requests": "5000",
        "x-ratelimit-remaining-requests": "4999",
        "x-ratelimit-reset-requests": "12ms",
        "x-ratelimit-limit-tokens": "160000",
        "x-ratelimit-remaining-tokens": "159976",
        "x-ratelimit-reset-tokens": "9ms",
    }

    assert limits_of(headers, NOW) == LimitHeaders(
        limit_requests=5_000,
        remaining_requests=4_999,
        reset_requests_ms=12,
        limit_tokens=160_000,
        remaining_tokens=159_976,
        reset_tokens_ms=9,
    )


def test_missing_negative_and_broken_limits_are_unknown() -> None:
    headers = {"x-ratelimit-remaining-requests": "-1", "x-ratelimit-remaining-tokens": "many"}

    assert limits_of(headers, NOW) == LimitHeaders()


def test_zero_remaining_is_zero() -> None:
    assert limits_of({"x-ratelimit-remaining-tokens": "0"}, NOW).remaining_tokens == 0


def pools(whole: tuple[str, str, str], project: tuple[str, str, str]) -> LimitHeaders:
    headers = {}
    for name, values in (("tokens", whole), ("project-tokens", project)):
        for part, value in zip(("limit", "remaining", "reset"), values, strict=True):
            headers[f"x-ratelimit-{part}-{name}"] = value
    return limits_of(headers, NOW)


def test_the_tighter_project_pool_wins_with_its_reset() -> None:
    limits = pools(("150000", "149984", "6ms"), ("60000", "57000", "3s"))

    assert (limits.limit_tokens, limits.remaining_tokens, limits.reset_tokens_ms) == (60_000, 57_000, 3_000)


def test_figures_of_two_pools_come_without_a_reset() -> None:
    limits = pools(("100000", "50000", "30s"), ("60000", "57000", "3s"))

    assert (limits.limit_tokens, limits.remaining_tokens, limits.reset_tokens_ms) == (60_000, 50_000, None)


def test_a_project_pool_alone_is_used() -> None:
    limits = limits_of({"x-ratelimit-limit-project-tokens": "60000"}, NOW)

    assert limits.limit_tokens == 60_000
