"""A provider's raw reply, or the trouble that came instead."""

from dataclasses import dataclass, field
from enum import StrEnum

from schemas.admission import LimitFigures, LimitHeaders, WaitReason
from schemas.jsons import JsonObject
from schemas.money import Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A completed call.

    `body` is the whole chat completion object; `text` is its first choice's content. `finish_reason` and `refusal` are
    checked before the text. `usage` is None if the provider sent none.
    """

    body: JsonObject
    text: str | None
    finish_reason: str | None
    refusal: str | None
    usage: Usage | None
    model: str
    service_tier: str | None = None
    request_id: str | None = None
    limits: LimitHeaders = field(default_factory=LimitHeaders)
    latency_ms: int = 0
    first_byte_ms: int | None = None


class TroubleKind(StrEnum):
    """Errors grouped by what must be done about them, not by status (`providers.account.errors`)."""

    THROTTLE = "throttle"
    RAMP = "ramp"
    MONEY = "money"
    TOO_LARGE = "too_large"
    SERVER = "server"
    NOT_SENT = "not_sent"
    AMBIGUOUS = "ambiguous"
    CUT = "cut"
    BAD_REQUEST = "bad_request"
    AUTH = "auth"
    FORBIDDEN = "forbidden"
    """The provider refused this request: moderation, a block page, or a missing permission."""
    MODEL_FORBIDDEN = "model_forbidden"
    """The provider refused this model for this account: another target of the chain may serve."""
    MODEL_NOT_FOUND = "model_not_found"
    UNREADABLE = "unreadable"
    """The answer is larger or deeper than the limits. Asking again would cost as much and bring the same."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """A call that brought no usable reply.

    `usage` is a local count if a stream was cut after it had begun. `limit` and `figures` come from the message of a
    throttle; None is unknown.
    """

    kind: TroubleKind
    message: str
    status: int | None = None
    code: str | None = None
    request_id: str | None = None
    retry_after_ms: int | None = None
    limit: WaitReason | None = None
    figures: LimitFigures | None = None
    usage: Usage | None = None
    partial_text: str | None = None
    limits: LimitHeaders = field(default_factory=LimitHeaders)
    latency_ms: int = 0
