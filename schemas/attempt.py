"""Types for attempts: one call to one target, stored before anything is sent."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from schemas.admission import Grant
from schemas.ids import AttemptId, JobId
from schemas.job import Target
from schemas.jsons import JsonObject
from schemas.money import NanoUsd, Price, Usage


class AttemptState(StrEnum):
    """`opened` may have been sent; `suspense` is unresolved; others are final."""

    OPENED = "opened"
    POSTED = "posted"
    RELEASED = "released"
    SUSPENSE = "suspense"


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedAttempt:
    """An attempt before its call, sufficient to charge it if its worker dies."""

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
    """An attempt after its call, stored in the decision's transaction.

    `tier` served it at `price`; if unknown, the call costs as reserved.
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
    """An attempt of unknown cost: in flight or unresolved."""

    attempt_id: AttemptId
    job_id: JobId
    state: AttemptState
    grant: Grant
    opened_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class SettledEnd:
    """How a reservation ended; `tokens` is None if not counted."""

    state: AttemptState
    grant: Grant
    cost_nano_usd: NanoUsd
    tokens: int | None
