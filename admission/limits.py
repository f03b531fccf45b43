"""Types for a target's limits, its snapshot and budget counters."""

from dataclasses import dataclass
from enum import StrEnum
from math import floor

from admission.days import DayResets
from admission.stamps import Stamp
from admission.state import CRITICAL_SLOTS, DEFAULT_FLOORS, DEFAULT_SHARES
from admission.tenants import NEW_PACE_US
from schemas.job import Target
from schemas.lanes import Lane
from schemas.money import NanoUsd

HIGHEST_SUM_OF_SHARES = 0.9
"""Shares ignore floors; a lower sum lets the bucket recover for critical."""


def fitting_shares(shares: dict[Lane, float]) -> tuple[float, float, float, float]:
    """Scale shares to a sum of at most 0.9, by lane. Critical needs no share and gets 0."""
    requested = [0.0 if lane is Lane.CRITICAL else max(0.0, shares.get(lane, 0.0)) for lane in Lane]
    scale = min(1.0, HIGHEST_SUM_OF_SHARES / max(sum(requested), HIGHEST_SUM_OF_SHARES))
    critical, high, normal, low = (share * scale for share in requested)
    return critical, high, normal, low


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetLimits:
    """Configured limits of one target; None is unlimited until headers reveal a limit.

    With `day_resets` None a day's limit refills continuously. `burst_ms` is the refill that may be spent at once, small
    because some providers enforce by the second. `refund_share` of unused tokens is returned by the provider; None
    learns it.
    """

    target: Target
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_day: int | None = None
    max_in_flight: int | None = None
    day_resets: DayResets | None = None
    burst_ms: int = 300
    floors: tuple[float, float, float, float] = DEFAULT_FLOORS
    shares: tuple[float, float, float, float] = DEFAULT_SHARES
    refund_share: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DimensionSnapshot:
    """One limit: permits per period and bucket level (1 full, negative in debt). None: no limit.

    `effective` is the slower of configured and learned, less cuts after refusals. `resets_in_ms` is set where a day's
    limit resets at once.
    """

    configured: float | None
    learned: float | None
    effective: float | None
    level: float | None
    resets_in_ms: int | None = None


class ShutBy(StrEnum):
    """Why nothing is granted: a named wait, too fast a rise, or a stopped account."""

    RETRY_AFTER = "retry_after"
    SLOW_DOWN = "slow_down"
    ACCOUNT_STOPPED = "account_stopped"


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitsSnapshot:
    """A target's bucket at one moment of the Redis server's clock.

    `used_*_last_minute` are estimates. `ticket_ms` is the distance of each lane's last ticket (0: none waits).
    `rate_factor` below 1 is a cut after unexplained refusals, `ramp_factor` after too fast a rise; `effective` includes
    both.
    """

    target: Target
    version: int
    requests_per_minute: DimensionSnapshot
    tokens_per_minute: DimensionSnapshot
    requests_per_day: DimensionSnapshot
    tokens_per_day: DimensionSnapshot
    used_requests_last_minute: int
    used_tokens_last_minute: int
    in_flight: int
    max_in_flight: int | None
    ticket_ms: dict[Lane, int]
    frozen_ms: int
    shut_by: ShutBy | None = None
    stopped: str | None
    rate_factor: float
    refund_share: float
    ramp_factor: float = 1.0

    def free_slots(self, lane: Lane) -> int | None:
        """Return how many calls of this lane may start now; None is unlimited."""
        return None if self.max_in_flight is None else free_slots(self.max_in_flight, self.in_flight, lane)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShareSnapshot:
    """What a tenant uses of its share, at one moment of the Redis server's clock.

    `seconds_per_call` is the usual time between the ends of two calls, or the time since the last if that is longer.
    The rates of requests and tokens are full again after `full_in_seconds`. `ticket_ms` is as in LimitsSnapshot.
    """

    in_flight: int
    ticket_ms: dict[Lane, int]
    seconds_per_call: float = NEW_PACE_US / 1_000_000
    full_in_seconds: tuple[float, float] = (0.0, 0.0)


def free_slots(most: int, in_flight: int, lane: Lane) -> int:
    """Return how many calls of this lane may start, of which critical has some for itself."""
    reserved = 0 if lane is Lane.CRITICAL else floor(most * CRITICAL_SLOTS)
    return max(0, most - reserved - in_flight)


@dataclass(frozen=True, kw_only=True, slots=True)
class Holdings:
    """All money in Redis at one moment; only existing counters are included."""

    epoch: int | None
    stamps: tuple[Stamp, ...]
    balances: tuple["Balance", ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """One budget counter; settled + reserved <= limit. With limit None each ask brings its own."""

    scope: str
    window: str
    limit_nano_usd: NanoUsd | None
    settled_nano_usd: NanoUsd
    reserved_nano_usd: NanoUsd
