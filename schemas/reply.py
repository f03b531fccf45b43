"""A provider's reply, or the trouble that came instead."""

from dataclasses import dataclass, field
from enum import StrEnum

from schemas.admission import LimitFigures, LimitHeaders, WaitReason
from schemas.jsons import JsonObject
from schemas.money import Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A completed call; `text` is the content of the first choice of `body`."""

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
    """Errors grouped by remedy, not by status (`providers.account.errors`)."""

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
    """The request was refused: moderation, a block page or a missing permission."""
    MODEL_FORBIDDEN = "model_forbidden"
    """The model was refused for this account; another target may serve."""
    MODEL_NOT_FOUND = "model_not_found"
    UNREADABLE = "unreadable"
    """The answer exceeds the size or depth limits; asking again would bring the same."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """A call without a usable reply.

    `usage` is a local count if a stream was cut. `limit` and `figures` come from a throttle's message.
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
