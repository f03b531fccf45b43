"""An attempt: one call to one target, durable before anything is sent."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from schemas.admission import Grant
from schemas.ids import AttemptId, JobId
from schemas.job import Target
from schemas.jsons import JsonObject
from schemas.money import NanoUsd, Price, Usage


class AttemptState(StrEnum):
    """`opened` may have been sent; `suspense` is unresolved until later; others are final."""

    OPENED = "opened"
    POSTED = "posted"
    RELEASED = "released"
    SUSPENSE = "suspense"


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedAttempt:
    """An attempt as stored before the call, enough to charge it if its worker dies.

    `request` is None if not kept.
    """

    id: AttemptId
    job_id: JobId
    fence: int
    target: Target
    grant: Grant
    price: Price
    request: JsonObject | None
    opened_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ClosedAttempt:
    """An attempt as stored after the call, in the transaction of the decision.

    `outcome` is a short word. `tier` is the tier that served it and `price` its price; None if unknown, and then the
    call costs as reserved.
    """

    id: AttemptId
    state: AttemptState
    outcome: str
    cost_nano_usd: NanoUsd
    closed_at: datetime
    usage: Usage | None = None
    reply: JsonObject | None = None
    error: JsonObject | None = None
    recovery: str | None = None
    complaint: str | None = None
    provider_request_id: str | None = None
    latency_ms: int = 0
    tier: str | None = None
    price: Price | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Unsettled:
    """An attempt of unknown cost: in flight or unresolved. Its grant settles it in Redis."""

    attempt_id: AttemptId
    job_id: JobId
    state: AttemptState
    grant: Grant
    opened_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class SettledEnd:
    """How an attempt's reservation ended; `tokens` is None if nobody counted them."""

    state: AttemptState
    grant: Grant
    cost_nano_usd: NanoUsd
    tokens: int | None
