"""A target's configured limits, its snapshot for `penstock limits`, and budget counters."""

from dataclasses import dataclass
from enum import StrEnum
from math import floor

from admission.days import DayResets
from admission.stamps import Stamp
from admission.state import CRITICAL_SLOTS, DEFAULT_FLOORS, DEFAULT_SHARES
from schemas.job import Target
from schemas.lanes import Lane
from schemas.money import NanoUsd

HIGHEST_SUM_OF_SHARES = 0.9
"""Shares ignore floors, so their sum stays below the rate: the bucket must recover for critical."""


def fitting_shares(shares: dict[Lane, float]) -> tuple[float, float, float, float]:
    """Scales shares down to a sum of at most 0.9, in the order of lanes. Critical gets 0: it needs no share."""
    wanted = [0.0 if lane is Lane.CRITICAL else max(0.0, shares.get(lane, 0.0)) for lane in Lane]
    scale = min(1.0, HIGHEST_SUM_OF_SHARES / max(sum(wanted), HIGHEST_SUM_OF_SHARES))
    critical, high, normal, low = (share * scale for share in wanted)
    return critical, high, normal, low


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetLimits:
    """Configured limits of one target; None is unlimited until headers reveal a limit.

    `day_resets` is for providers whose days end at a fixed hour; with None a day's limit refills continuously.
    `burst_ms` is how much refill may be spent at once. It is less than a provider's own depth, because some enforce by
    the second, and because a limit configured twice too high must not cause a burst of refusals. `refund_share` is the
    part of unused tokens that the provider gives back; None learns it from headers.
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
    """One limit: permits per its period, and how full the bucket is (1 full, negative in debt). None: no limit.

    `effective` is what the gate grants unless the target is frozen or stopped: the slower of configured and learned,
    less what refusals have cut. `resets_in_ms` is set where a day's limit resets all at once.
    """

    configured: float | None
    learned: float | None
    effective: float | None
    level: float | None
    resets_in_ms: int | None = None


class ShutBy(StrEnum):
    """Why nothing is granted: a refusal that named a time, a rise that was too fast, or a stopped account."""

    RETRY_AFTER = "retry_after"
    SLOW_DOWN = "slow_down"
    ACCOUNT_STOPPED = "account_stopped"


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitsSnapshot:
    """A target's bucket at one moment of the Redis server's clock.

    `used_*_last_minute` are sliding estimates of what was admitted. `ticket_ms` is how far ahead each lane's last
    ticket lies (0: no call waits). `stopped` is the reason for which the account is stopped. `rate_factor` below 1 is a
    cut after unexplained refusals, `ramp_factor` one after too fast a rise; `effective` includes both.
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
        """Calls of this lane that may start before a running one ends; None is unlimited."""
        if self.max_in_flight is None:
            return None
        kept = 0 if lane is Lane.CRITICAL else floor(self.max_in_flight * CRITICAL_SLOTS)
        return max(0, self.max_in_flight - kept - self.in_flight)


@dataclass(frozen=True, kw_only=True, slots=True)
class Holdings:
    """All money in Redis at one moment: every stamp, and each requested counter that exists."""

    epoch: int | None
    stamps: tuple[Stamp, ...]
    balances: tuple["Balance", ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """One budget counter; settled + reserved <= limit. With a limit of None each ask brings its own."""

    scope: str
    window: str
    limit_nano_usd: NanoUsd | None
    settled_nano_usd: NanoUsd
    reserved_nano_usd: NanoUsd
