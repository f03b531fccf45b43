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
    """`opened` may have been sent; the others are final but for `suspense`, which is resolved later."""

    OPENED = "opened"
    POSTED = "posted"
    RELEASED = "released"
    SUSPENSE = "suspense"


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedAttempt:
    """What is written before the call: enough to book it if its worker dies now. `request` is None if not kept."""

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
    """What is written after the call, in the same transaction as the decision. `outcome` is a short word.

    `tier` is what served, and `price` what it cost there; None where nobody told, and then it cost as reserved.
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
    """An attempt whose cost is not known: being called, or in suspense. Its grant settles it in Redis."""

    attempt_id: AttemptId
    job_id: JobId
    state: AttemptState
    grant: Grant
    opened_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class SettledEnd:
    """How an attempt ended, as far as its reservation is concerned; `tokens` is None where nobody counted."""

    state: AttemptState
    grant: Grant
    cost_nano_usd: NanoUsd
    tokens: int | None
