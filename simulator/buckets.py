"""Continuously refilling buckets of one key and model, and the headers that describe them. Reads no clock.

A bucket holds `depth` units and refills at limit/60 a second. Its debt is what is missing from full. `remaining` is the
limit of a minute less that debt, and `reset` is debt / rate, which matches recorded OpenAI headers. A call larger than
the depth but not than the limit passes when the bucket is full and leaves it below zero.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from simulator.settings import Remaining

_MINUTE_SECONDS = 60
_ROUNDING = 1e-6  # units; float refill may fall slightly short


class Reason(StrEnum):
    """Why a call was not admitted."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    TOO_LARGE = "too_large"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A call that was not admitted, with the figures for its error message."""

    reason: Reason
    limit: int
    used: int
    requested: int
    wait_seconds: float


class Bucket:
    """One bucket."""

    def __init__(self, *, limit_per_minute: int, depth: float, now: float) -> None:
        self.limit = limit_per_minute
        self.rate = limit_per_minute / _MINUTE_SECONDS
        self.depth = depth
        self._level, self._at = depth, now

    def level(self, now: float) -> float:
        """Refill up to now, and return the level. A clock that steps back changes nothing."""
        if now > self._at:
            self._level = min(self.depth, self._level + (now - self._at) * self.rate)
            self._at = now
        return self._level

    def wait_seconds(self, cost: float, now: float) -> float:
        """Return the seconds until the cost fits; 0 when it fits now."""
        missing = min(cost, self.depth) - self.level(now)
        return 0.0 if missing <= _ROUNDING else missing / self.rate

    def take(self, cost: float, now: float) -> None:
        """Charge an admitted call; a large one may leave the bucket below zero."""
        self._level = self.level(now) - cost

    def take_refused(self, now: float) -> None:
        """Charge a refused call, but not below empty."""
        self._level = max(min(self.level(now), 0.0), self.level(now) - 1)

    def give_back(self, cost: float, now: float) -> None:
        """Return units, but not above full."""
        self._level = min(self.depth, self.level(now) + cost)

    def headers(self, unit: str, remaining: Remaining, now: float) -> dict[str, str]:
        """Return the three x-ratelimit headers of this bucket."""
        debt = self.depth - self.level(now)
        left = self.limit - debt if remaining is Remaining.LIMIT else self._level
        return {
            f"x-ratelimit-limit-{unit}": str(self.limit),
            f"x-ratelimit-remaining-{unit}": str(max(0, math.floor(left + _ROUNDING))),
            f"x-ratelimit-reset-{unit}": go_duration(debt / self.rate),
        }


class Quota:
    """The request bucket and the token bucket of one key and model. A limit of 0 is no limit."""

    def __init__(
        self,
        *,
        requests_per_minute: int,
        tokens_per_minute: int,
        burst_seconds: float,
        refusals_count: bool,
        remaining: Remaining,
        now: float,
    ) -> None:
        self._requests = _bucket(requests_per_minute, burst_seconds, now)
        self._tokens = _bucket(tokens_per_minute, burst_seconds, now)
        self._refusals_count, self._remaining = refusals_count, remaining

    def admit(self, tokens: int, now: float) -> Refusal | None:
        """Take one request and the tokens, or neither; return why not."""
        refusal = self._why_not(tokens, now)
        if refusal is not None:
            self.charge_refused(now)
            return refusal
        if self._requests is not None:
            self._requests.take(1, now)
        if self._tokens is not None:
            self._tokens.take(tokens, now)
        return None

    def charge_refused(self, now: float) -> None:
        """Count a refused call as a request, where refused calls count."""
        if self._refusals_count and self._requests is not None:
            self._requests.take_refused(now)

    def give_back(self, tokens: int, now: float) -> None:
        """Return tokens that were charged and not used."""
        if self._tokens is not None:
            self._tokens.give_back(tokens, now)

    def headers(self, now: float) -> dict[str, str]:
        """Return the current rate-limit headers; none for what is unlimited."""
        found: dict[str, str] = {}
        if self._requests is not None:
            found |= self._requests.headers("requests", self._remaining, now)
        if self._tokens is not None:
            found |= self._tokens.headers("tokens", self._remaining, now)
        return found

    def _why_not(self, tokens: int, now: float) -> Refusal | None:
        if self._tokens is not None and tokens > self._tokens.limit:
            return _refusal(Reason.TOO_LARGE, self._tokens, tokens, now)
        if self._requests is not None and self._requests.wait_seconds(1, now) > 0:
            return _refusal(Reason.REQUESTS, self._requests, 1, now)
        if self._tokens is not None and self._tokens.wait_seconds(tokens, now) > 0:
            return _refusal(Reason.TOKENS, self._tokens, tokens, now)
        return None


def _bucket(limit_per_minute: int, burst_seconds: float, now: float) -> Bucket | None:
    if limit_per_minute <= 0:
        return None
    depth = max(1.0, limit_per_minute * burst_seconds / _MINUTE_SECONDS)
    return Bucket(limit_per_minute=limit_per_minute, depth=depth, now=now)


def _refusal(reason: Reason, bucket: Bucket, requested: int, now: float) -> Refusal:
    return Refusal(
        reason=reason,
        limit=bucket.limit,
        used=math.ceil(bucket.limit - bucket.level(now) - _ROUNDING),  # so that wait = (used + requested - limit)/rate
        requested=requested,
        wait_seconds=bucket.wait_seconds(requested, now),
    )


def go_duration(seconds: float) -> str:
    """Format a duration as Go does, truncated to milliseconds: 12ms, 3.114s, 6m0s, 14h29m11.04s."""
    ms = math.floor(seconds * 1000 + _ROUNDING)
    if ms <= 0:
        return "0s"
    if ms < 1000:  # noqa: PLR2004 - a second
        return f"{ms}ms"
    minutes, ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, part = divmod(ms, 1000)
    tail = f"{whole}.{part:03d}".rstrip("0").rstrip(".") if part else str(whole)
    if hours:
        return f"{hours}h{minutes}m{tail}s"
    return f"{minutes}m{tail}s" if minutes else f"{tail}s"
