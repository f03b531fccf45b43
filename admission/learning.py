"""Which limit a header speaks of: a minute's or a day's. Pure; the label on a header can lie, its arithmetic cannot.

The time until the bucket is full, over what is missing from it, gives the period (facts: 519 tokens missing of
10,000 and a reset of 3.114 s make 60 s; 1 request of 10,000 and 8.64 s make a day).
"""

from dataclasses import dataclass

from schemas.admission import LimitHeaders

MINUTE_MS = 60_000
DAY_MS = 86_400_000
SHORTEST_TELLING_RESET_MS = 5
"""Resets are truncated to a millisecond; below this the error is larger than a guess."""
CLOSE_ENOUGH = 1.6
"""The known periods are far apart, so a factor either way still names one."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Dimension (1 requests/min, 2 tokens/min, 3 requests/day, 4 tokens/day), what remained, and a limit to learn."""

    dimension: int
    remaining: int | None = None
    limit: int | None = None


def read_requests(headers: LimitHeaders) -> Reading:
    """What the request headers say."""
    return _read(1, headers.limit_requests, headers.remaining_requests, headers.reset_requests_ms)


def read_tokens(headers: LimitHeaders) -> Reading:
    """What the token headers say."""
    return _read(2, headers.limit_tokens, headers.remaining_tokens, headers.reset_tokens_ms)


def _read(minute: int, limit: int | None, remaining: int | None, reset_ms: int | None) -> Reading:
    if remaining is None or remaining < 0 or (limit is not None and limit <= 0):
        return Reading(minute)
    if limit is None:
        return Reading(minute, remaining)
    deficit = limit - remaining
    if deficit <= 0:
        return Reading(minute)
    if reset_ms is None or reset_ms < SHORTEST_TELLING_RESET_MS:
        return Reading(minute, remaining)
    period_ms = reset_ms / deficit * limit
    if MINUTE_MS / CLOSE_ENOUGH < period_ms < MINUTE_MS * CLOSE_ENOUGH:
        return Reading(minute, remaining, limit)
    if DAY_MS / CLOSE_ENOUGH < period_ms < DAY_MS * CLOSE_ENOUGH:
        return Reading(minute + 2, remaining, limit)
    return Reading(minute)
