"""Decides whether a provider's headers mean a minute's limit or a day's. Pure.

Labels can be wrong, so the period is computed: 519 of 10,000 tokens missing and a reset of 3.114 s make 60 s.
"""

from dataclasses import dataclass

from schemas.admission import LimitFigures, LimitHeaders, Penalty, WaitReason

MINUTE_MS = 60_000
DAY_MS = 86_400_000
SHORTEST_TELLING_RESET_MS = 5
"""Resets are truncated to a millisecond; shorter ones are too imprecise."""
CLOSE_ENOUGH = 1.6
"""Greatest factor between a computed and a known period, which lie far apart."""

PRECISE_ENOUGH_MS = 1_000
"""Shortest wait whose rounding error still allows a rate of no known period."""

DIMENSIONS = {
    WaitReason.REQUESTS: 1,
    WaitReason.TOKENS: 2,
    WaitReason.REQUESTS_PER_DAY: 3,
    WaitReason.TOKENS_PER_DAY: 4,
}


@dataclass(frozen=True, slots=True)
class Lesson:
    """Dimension (0 unknown) and microseconds per permit (None unknown) taught by a refusal."""

    dimension: int
    interval_us: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """Dimension (1 requests/min, 2 tokens/min, 3 requests/day, 4 tokens/day), remainder, and limit to learn."""

    dimension: int
    remaining: int | None = None
    limit: int | None = None


def read_requests(headers: LimitHeaders) -> Reading:
    """Read the request headers."""
    return _read(1, headers.limit_requests, headers.remaining_requests, headers.reset_requests_ms)


def read_tokens(headers: LimitHeaders) -> Reading:
    """Read the token headers."""
    return _read(2, headers.limit_tokens, headers.remaining_tokens, headers.reset_tokens_ms)


def read_penalty(penalty: Penalty) -> Lesson:
    """Return the rate behind a refusal: wait / (used + requested - limit), or a matching known period."""
    dimension = 0 if penalty.limit is None else DIMENSIONS.get(penalty.limit, 0)
    figures = penalty.figures
    if dimension == 0 or figures is None or figures.limit <= 0:
        return Lesson(dimension)
    excess = figures.used + figures.requested - figures.limit
    if excess <= 0 or figures.requested > figures.limit:
        return Lesson(dimension)
    minute = 2 - dimension % 2
    periods = [period for period in (MINUTE_MS, DAY_MS) if _explains(period, figures, excess)]
    if periods:
        period = (MINUTE_MS if dimension <= 2 else DAY_MS) if len(periods) > 1 else periods[0]  # noqa: PLR2004 - dimensions
        return Lesson(minute if period == MINUTE_MS else minute + 2, period * 1_000 / figures.limit)
    if figures.wait_ms >= PRECISE_ENOUGH_MS:
        return Lesson(minute + 2, figures.wait_ms * 1_000 / excess)
    return Lesson(dimension)


def _explains(period_ms: float, figures: LimitFigures, excess: int) -> bool:
    shortest = max(figures.wait_ms - 1, 0) / (excess + 1) * figures.limit
    longest = (figures.wait_ms + 1) / max(excess - 1, 0.5) * figures.limit
    return shortest < period_ms * 1.05 and period_ms < longest * 1.05


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
