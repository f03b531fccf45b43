"""What we do about an outcome: a closed set of values. Deciding returns one; `storage.jobs.writes` records it.

A `note` is what an exhausted budget made of the job, kept with it.
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
    """Rest as completed with this reply."""

    reply: Reply
    output: Any = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AskAgain:
    """Ask at once, within this lease: a reprompt, a higher output limit, or the next target of the chain.

    `skips` is how many targets are passed over on the way to the next.
    """

    body: JsonObject
    reason: str
    next_target: bool = False
    skips: int = 0
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitInPlace:
    """Wait within this lease and ask the same again, because a caller waits for the answer.

    It stands for a `RetryAt`, and then costs a try, or for a `Park`.
    """

    until_at: datetime
    reason: str
    costs_try: bool
    waiting_since: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryAt:
    """A new try later; costs one."""

    at: datetime
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Park:
    """Wait in Postgres without costing a try. `waiting_since` where for a limit: the ticket and its age remain."""

    until_at: datetime
    reason: str
    waiting_since: datetime | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """Rest as dead, with the last error in words."""

    reason: DeadReason
    message: str
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Expire:
    """Rest as expired: the deadline has passed."""


Decision: TypeAlias = Complete | AskAgain | WaitInPlace | RetryAt | Park | DeadLetter | Expire
