"""Types for the gate: one ask is one atomic decision over all limits and budgets."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from schemas.ids import AttemptId
from schemas.job import Target
from schemas.lanes import Lane
from schemas.money import ZERO, NanoUsd
from schemas.tenants import TenantShare

RULE_SCOPE = "rule:"
"""Prefix of a time-of-day rule's counter scope, before the rule's name."""


class Step(StrEnum):
    """Steps, in order, for a job with an exhausted budget."""

    CHEAPER = "cheaper"
    CACHED = "cached"
    PARK = "park"
    REJECT = "reject"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """A limit that grows in its window from the share `ahead` (above 0) to all."""

    starts_at: datetime
    ends_at: datetime
    ahead: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetCounter:
    """One scope (`global`, `tenant:acme`) in one window (`2026-11-24`)."""

    scope: str
    window: str
    limit_nano_usd: NanoUsd
    ends_at: datetime | None = field(default=None, compare=False)
    on_exhausted: tuple[Step, ...] = field(default=(), compare=False)
    pace: Pace | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """Asks whether this attempt may start now; its tokens are the quote's permits.

    A ticket of the `share` is not one of the bucket.
    """

    attempt_id: AttemptId
    target: Target
    lane: Lane
    tokens: int
    cost_nano_usd: NanoUsd
    epoch: int
    counters: tuple[BudgetCounter, ...] = ()
    waited_ms: int = 0
    has_ticket: bool = False
    horizon_ms: int = 0
    family: str | None = None
    share: TenantShare | None = None
    has_share_ticket: bool = False

    @property
    def bucket(self) -> Target:
        """The target or family whose limits apply."""
        return self.target if self.family is None else Target(account=self.target.account, model=self.family)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """Permission to start after `wait_ms`; `stamp` names the reservation and settles it once."""

    stamp: str
    wait_ms: int
    tokens: int
    cost_nano_usd: NanoUsd
    target: Target
    epoch: int
    counters: tuple[BudgetCounter, ...] = ()


class WaitReason(StrEnum):
    """The limit for which an attempt must wait."""

    REQUESTS = "requests_per_minute"
    TOKENS = "tokens_per_minute"
    REQUESTS_PER_DAY = "requests_per_day"
    TOKENS_PER_DAY = "tokens_per_day"
    IN_FLIGHT = "in_flight"
    FROZEN = "frozen"
    TENANT_REQUESTS = "tenant_requests"
    TENANT_TOKENS = "tenant_tokens"
    TENANT_IN_FLIGHT = "tenant_in_flight"


TENANT_REASONS = (WaitReason.TENANT_REQUESTS, WaitReason.TENANT_TOKENS, WaitReason.TENANT_IN_FLIGHT)
"""Waits for the tenant's share; the target may have capacity for other tenants."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Ask again in `retry_after_ms` with the ticket, which precedes all newer ones."""

    retry_after_ms: int
    reason: WaitReason


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitFigures:
    """The numbers of a 429: `Limit 100000, Used 99918, Requested 2094. Please try again in 14h29m11.04s`."""

    limit: int
    used: int
    requested: int
    wait_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Penalty:
    """A pause for all calls to a target after a refusal.

    `limit` is the named limit; `figures` improve the learned rate; `ramp` means that traffic rose too fast.
    """

    wait_ms: int
    limit: WaitReason | None = None
    figures: LimitFigures | None = None
    ramp: bool = False


class RefusalReason(StrEnum):
    """Why asking again in the same way would not help."""

    TOO_LARGE = "too_large"
    TENANT_TOO_LARGE = "tenant_too_large"
    BUDGET = "budget"
    PACE = "pace"
    TOO_MANY_BUDGETS = "too_many_budgets"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_PRICE = "unknown_price"
    STALE_EPOCH = "stale_epoch"
    STALE_WINDOW = "stale_window"
    ACCOUNT_STOPPED = "account_stopped"
    NOT_READY = "not_ready"


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """The gate's refusal; `scope` names the budget, if any.

    For a budget: `counter` is the full window, `cheaper_in` the distance to the next cheaper target of the chain (0:
    none). `opens_in_ms` is when the pace allows the amount. `waited_for` is the limit awaited before.
    """

    reason: RefusalReason
    scope: str | None = None
    counter: BudgetCounter | None = field(default=None, compare=False)
    asked_nano_usd: NanoUsd = field(default=ZERO, compare=False)
    cheaper_in: int = field(default=0, compare=False)
    opens_in_ms: int = field(default=0, compare=False)
    waited_for: WaitReason | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitHeaders:
    """Limits in a provider's reply. None is unknown, never zero."""

    limit_requests: int | None = None
    remaining_requests: int | None = None
    reset_requests_ms: int | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None
    reset_tokens_ms: int | None = None


class SettleKind(StrEnum):
    """How a reservation ends."""

    POST = "post"
    RELEASE = "release"
    SUSPEND = "suspend"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settlement:
    """The actual figures that replace a reservation.

    `actual_*` are zero for a release, and the reserved amounts for an unresolved charge. `refund_permits` is false
    where the provider keeps them.
    """

    grant: Grant
    kind: SettleKind
    actual_tokens: int = 0
    actual_nano_usd: NanoUsd = ZERO
    refund_permits: bool = True
    headers: LimitHeaders = field(default_factory=LimitHeaders)
