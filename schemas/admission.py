"""What is asked of the gate and what it answers. One ask is one atomic decision over all limits and budgets."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from schemas.ids import AttemptId
from schemas.job import Target
from schemas.lanes import Lane
from schemas.money import ZERO, NanoUsd
from schemas.tenants import TenantShare

MAX_BUDGET_COUNTERS = 8
RULE_SCOPE = "rule:"
"""How the scope of a time-of-day rule's counter begins; its name follows."""


class Step(StrEnum):
    """What is done, in order, with a job whose money is gone."""

    CHEAPER = "cheaper"
    CACHED = "cached"
    PARK = "park"
    REJECT = "reject"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """A limit that grows with its window: at first `ahead` (a part of it, above 0), all of it before `ends_at`."""

    starts_at: datetime
    ends_at: datetime
    ahead: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetCounter:
    """One scope in one window: `scope` such as `global` or `tenant:acme`, `window` such as `2026-11-24`.

    When the window ends, at what pace it may be spent, and what follows its exhaustion is known to whoever asks, and is
    no part of the counter.
    """

    scope: str
    window: str
    limit_nano_usd: NanoUsd
    ends_at: datetime | None = field(default=None, compare=False)
    on_exhausted: tuple[Step, ...] = field(default=(), compare=False)
    pace: Pace | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """May this attempt start now? Tokens are the quote's worst case; waits are milliseconds.

    `share` limits the calls of its tenant; None where nothing does. A ticket of the share is not one of the bucket.
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
        """Whose limits it counts against: those of its model, or of the family that shares them."""
        return self.target if self.family is None else Target(account=self.target.account, model=self.family)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """Permission to start after `wait_ms`. `stamp` names the reservation in Redis and settles it exactly once."""

    stamp: str
    wait_ms: int
    tokens: int
    cost_nano_usd: NanoUsd
    target: Target
    epoch: int
    counters: tuple[BudgetCounter, ...] = ()


class WaitReason(StrEnum):
    """Which limit said not now."""

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
"""The share of the job's tenant said not now; the target may have room for others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Not now: ask again in `retry_after_ms`, holding a ticket, and nobody newer goes first."""

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
    """What a provider told everybody by refusing one call: for how long nothing may be sent, and why.

    `limit` is the one that it named, None where it named none; `figures` teach the rate; `ramp` says that the traffic
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
    """No. `scope` names the budget that said so.

    Then `counter` is the window without room, `asked_nano_usd` what was wanted of it, and `cheaper_in` how many targets
    further in the chain a cheaper one stands (0: none does). `opens_in_ms` is when its pace has room, if nobody else
    takes it. `waited_for` is what an ask waited for whose window has turned meanwhile.
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
    """What a provider's reply said of its limits. None is unknown, never zero. Durations are milliseconds."""

    limit_requests: int | None = None
    remaining_requests: int | None = None
    reset_requests_ms: int | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None
    reset_tokens_ms: int | None = None


class SettleKind(StrEnum):
    """What became of a reservation."""

    POST = "post"
    RELEASE = "release"
    SUSPEND = "suspend"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settlement:
    """The truth that replaces a reservation. `actual_*` are zero for a release, the reservation for a suspense.

    `refund_permits` is false where the provider keeps what it counted, as OpenAI does for a refused call.
    """

    grant: Grant
    kind: SettleKind
    actual_tokens: int = 0
    actual_nano_usd: NanoUsd = ZERO
    refund_permits: bool = True
    headers: LimitHeaders = field(default_factory=LimitHeaders)
