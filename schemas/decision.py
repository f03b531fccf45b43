"""What is done about an outcome: a closed set of values.

A `note` says what an exhausted budget did to the job.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from schemas.jsons import JsonObject
from schemas.reply import Reply


class DeadReason(StrEnum):
    """Why a job is a dead letter."""

    INVALID_OUTPUT = "invalid_output"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    TOO_LARGE = "too_large"
    BAD_REQUEST = "bad_request"
    AUTH = "auth"
    MODEL_NOT_FOUND = "model_not_found"
    BUDGET = "budget"
    UNKNOWN_PRICE = "unknown_price"
    TRIES_EXHAUSTED = "tries_exhausted"
    AMBIGUOUS = "ambiguous"
    CONTRACT_VIOLATION = "contract_violation"
    CALLER_LOST = "caller_lost"
    POISON = "poison"
    INTERNAL_ERROR = "internal_error"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Complete:
    """Complete the job with this reply."""

    reply: Reply
    output: Any = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AskAgain:
    """Ask again at once, within this lease.

    A reprompt, a higher output limit, or the next target of the chain; `skips` targets are passed over.
    """

    body: JsonObject
    reason: str
    next_target: bool = False
    skips: int = 0
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitInPlace:
    """Wait within this lease and repeat the call, because a caller waits.

    Replaces a `RetryAt`, which costs a try, or a `Park`.
    """

    until_at: datetime
    reason: str
    costs_try: bool
    waiting_since: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryAt:
    """Retry later, which costs a try."""

    at: datetime
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Park:
    """Wait in Postgres without costing a try; `waiting_since` keeps a ticket's age."""

    until_at: datetime
    reason: str
    waiting_since: datetime | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """End as dead, with the last error."""

    reason: DeadReason
    message: str
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Expire:
    """End as expired."""


Decision: TypeAlias = Complete | AskAgain | WaitInPlace | RetryAt | Park | DeadLetter | Expire
