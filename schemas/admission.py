"""Asks and answers of the gate. One ask is one atomic decision over all limits and budgets."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from schemas.ids import AttemptId
from schemas.job import Target
from schemas.lanes import Lane
from schemas.money import ZERO, NanoUsd
from schemas.tenants import TenantShare

RULE_SCOPE = "rule:"
"""Prefix of the counter scope of a time-of-day rule; the rule's name follows."""


class Step(StrEnum):
    """What is done, in order, with a job whose budget is exhausted."""

    CHEAPER = "cheaper"
    CACHED = "cached"
    PARK = "park"
    REJECT = "reject"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """A limit that grows in its window, from the share `ahead` (above 0) to all by `ends_at`."""

    starts_at: datetime
    ends_at: datetime
    ahead: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetCounter:
    """One scope in one window: `scope` such as `global` or `tenant:acme`, `window` such as `2026-11-24`.

    The window's end, its pace and the steps on exhaustion are for the asker and do not identify the counter.
    """

    scope: str
    window: str
    limit_nano_usd: NanoUsd
    ends_at: datetime | None = field(default=None, compare=False)
    on_exhausted: tuple[Step, ...] = field(default=(), compare=False)
    pace: Pace | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """Asks whether this attempt may start now.

    Tokens are the quote's permits; waits are milliseconds. `share` limits the calls of the tenant; None if nothing
    does. A ticket of the share is not one of the bucket.
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
        """The owner of the limits that count the ask: its model, or the family that shares them."""
        return self.target if self.family is None else Target(account=self.target.account, model=self.family)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """Permission to start after `wait_ms`.

    `stamp` names the reservation in Redis and settles it exactly once.
    """

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
"""Waits for the share of the job's tenant; the target may have capacity for other tenants."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Not now: ask again in `retry_after_ms` with the ticket, which precedes all newer ones."""

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
    """A pause for all calls to a target, because its provider refused one call.

    `limit` is the one that the provider named, if any; `figures` improve the learned rate; `ramp` means that traffic
    rose too fast, which no limit explains.
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
    """The gate's no. `scope` names the budget that refused, if one did.

    For a budget, `counter` is the full window, `asked_nano_usd` the amount asked for, and `cheaper_in` the number of
    targets to the next cheaper one of the chain (0: there is none). `opens_in_ms` is when its pace allows the amount,
    if nobody else takes it. `waited_for` is what an ask was waiting for when its window turned.
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
    """The limits in a provider's reply. None is unknown, never zero. Durations are milliseconds."""

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

    `actual_*` are zero for a release, and the reservation for an unresolved charge. `refund_permits` is false where the
    provider keeps what it counted, as OpenAI does for a refused call.
    """

    grant: Grant
    kind: SettleKind
    actual_tokens: int = 0
    actual_nano_usd: NanoUsd = ZERO
    refund_permits: bool = True
    headers: LimitHeaders = field(default_factory=LimitHeaders)
