"""Reads limits and waits from a provider's headers. Pure.

Invariant: missing, negative and unreadable values are unknown, never zero. A reset is the time until full, never a
wait.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from schemas.admission import LimitHeaders

MS_BY_UNIT = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1_000.0, "m": 60_000.0, "h": 3_600_000.0}
LONGEST_MS = 366 * 86_400_000
"""Longer waits are nonsense and would overflow where stored."""

_PAIR = r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|h|m|s)"
_PAIRS = re.compile(_PAIR)
_DURATION = re.compile(f"(?:{_PAIR})+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_COUNT = re.compile(r"\d{1,15}")
_TRY_AGAIN = re.compile(r"try again in ([0-9.hmsnuµ]+?)\.?(?:\s|$)", re.IGNORECASE)


def duration_ms(text: str | None, now: datetime) -> int | None:
    """Read a wait as milliseconds; None is unknown.

    A Go duration (`6m0s`), seconds, or an RFC 3339 time relative to `now`.
    """
    if text is None:
        return None
    text = text.strip()
    if _DURATION.fullmatch(text):
        return _sane(sum(float(number) * MS_BY_UNIT[unit] for number, unit in _PAIRS.findall(text)))
    if _NUMBER.fullmatch(text):
        return _sane(float(text) * 1_000)
    try:
        return _until(datetime.fromisoformat(text), now)
    except ValueError:
        return None


def retry_after_ms(headers: Mapping[str, str], message: str, now: datetime) -> int | None:
    """Return the wait of `retry-after-ms`, else `retry-after` (seconds or date), else the message."""
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _NUMBER.fullmatch(milliseconds):
        return _sane(float(milliseconds))
    retry_after = headers.get("retry-after")
    wait_ms = duration_ms(retry_after, now)
    if wait_ms is None and retry_after is not None:
        wait_ms = _http_date_ms(retry_after, now)
    return wait_in_words_ms(message, now) if wait_ms is None else wait_ms


def wait_in_words_ms(message: str, now: datetime) -> int | None:
    """Return the wait in a message (`Please try again in 6ms`), which is finer than `retry-after`."""
    match = _TRY_AGAIN.search(message)
    return duration_ms(match[1], now) if match else None


def limits_of(headers: Mapping[str, str], now: datetime) -> LimitHeaders:
    """Read the limits of a reply, the tighter of two token pools. Names are lower case."""
    limit, remaining, reset = _tighter(_pool(headers, "tokens", now), _pool(headers, "project-tokens", now))
    limit_requests, remaining_requests, reset_requests = _pool(headers, "requests", now)
    return LimitHeaders(
        limit_requests=limit_requests,
        remaining_requests=remaining_requests,
        reset_requests_ms=reset_requests,
        limit_tokens=limit,
        remaining_tokens=remaining,
        reset_tokens_ms=reset,
    )


_Pool = tuple[int | None, int | None, int | None]


def _pool(headers: Mapping[str, str], name: str, now: datetime) -> _Pool:
    return (
        _count(headers.get(f"x-ratelimit-limit-{name}")),
        _count(headers.get(f"x-ratelimit-remaining-{name}")),
        duration_ms(headers.get(f"x-ratelimit-reset-{name}"), now),
    )


def _tighter(whole: _Pool, project: _Pool) -> _Pool:
    """Returns the reset only if limit and remainder are of its pool."""
    if project[0] is None and project[1] is None:
        return whole
    if whole[0] is None and whole[1] is None:
        return project
    limit, remaining = _least(whole[0], project[0]), _least(whole[1], project[1])
    reset = next((pool[2] for pool in (project, whole) if pool[:2] == (limit, remaining)), None)
    return limit, remaining, reset


def _least(first: int | None, second: int | None) -> int | None:
    limits = [value for value in (first, second) if value is not None]
    return min(limits, default=None)


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and _COUNT.fullmatch(text.strip()) else None


def _http_date_ms(text: str, now: datetime) -> int | None:
    try:
        return _until(parsedate_to_datetime(text), now)
    except (ValueError, OverflowError):
        return None


def _until(moment: datetime, now: datetime) -> int | None:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return _sane((aware - now).total_seconds() * 1_000)


def _sane(milliseconds: float) -> int | None:
    return round(milliseconds) if 0 <= milliseconds <= LONGEST_MS else None
