"""Maps errors to HTTP statuses and OpenAI's error object.

SDKs retry 408, 409, 429 and 5xx, so `x-should-retry: false` marks responses whose retry would be useless or paid twice.
No response shows a traceback or an address.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from api.answers import Json
from api.presence import ClientGone
from api.refused import rest_after
from schemas.accepted import JobResult
from schemas.admission import TENANT_REASONS, RefusalReason, WaitReason
from schemas.decision import DeadReason
from schemas.errors import (
    Forbidden,
    IdempotencyConflict,
    InvalidRequest,
    LaneForbidden,
    ListingTooSlow,
    NotFound,
    PenstockError,
    QuotaReached,
    ShareUsedUp,
    StorageFull,
    TooManyFailures,
    Unauthenticated,
    Unavailable,
    UnknownModel,
)
from schemas.jsons import JsonObject
from schemas.reply import TroubleKind
from schemas.states import JobState

CLIENT_GONE = 499
"""Seen only in metrics, because the client has left."""
STORE_AWAY_SECONDS = 5
LIMIT_SECONDS = 2
STILL_RUNNING_SECONDS = 1
BUSY_SECONDS = 2
"""Short requests end within it, which frees connections and memory."""
FAILURES_SECONDS = 1
QUOTA_SECONDS = 5
"""Jobs and batches end slower than calls."""

REQUEST, QUOTA, LIMIT = "invalid_request_error", "insufficient_quota", "rate_limit_error"
SERVER, OVERLOADED, OUTPUT = "server_error", "service_unavailable_error", "invalid_output_error"


class BodyTooLarge(InvalidRequest):
    """The body is larger than is allowed."""

    code = "request_too_large"


class SlowRequest(InvalidRequest):
    """The request did not come in time."""

    code = "request_timeout"


class TooManyHeaders(InvalidRequest):
    """The head of the request is too large."""

    code = "request_head_too_large"


class Busy(Unavailable):
    """This process has as many connections or bytes in work as it may; try again in a few seconds."""

    code = "busy"


class NotCompleted(PenstockError):  # noqa: N818 - reads as what became of the job
    """The job came to rest without an answer."""

    def __init__(self, result: JobResult) -> None:
        self.result = result
        super().__init__(result.message or _sentence(result))


def reply_of(result: JobResult) -> JsonObject:
    """Return the reply of a completed job. Raises NotCompleted for other states."""
    if result.state is not JobState.COMPLETED or result.reply is None:
        raise NotCompleted(result)
    return result.reply


@dataclass(frozen=True, slots=True)
class Kind:
    """How a family of errors is reported. `code` None means the error's own code."""

    status: int
    type: str
    code: str | None = None
    retry: bool | None = None
    retry_after_seconds: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


NEVER = False

BY_FAMILY: tuple[tuple[type[PenstockError], Kind], ...] = (
    (BodyTooLarge, Kind(413, REQUEST)),
    (SlowRequest, Kind(408, REQUEST)),
    (TooManyHeaders, Kind(431, REQUEST)),
    (UnknownModel, Kind(404, REQUEST)),
    (LaneForbidden, Kind(403, REQUEST)),
    (StorageFull, Kind(413, QUOTA, retry=NEVER)),
    (QuotaReached, Kind(429, LIMIT, retry_after_seconds=QUOTA_SECONDS)),
    (ShareUsedUp, Kind(429, LIMIT, retry_after_seconds=LIMIT_SECONDS)),
    (IdempotencyConflict, Kind(409, REQUEST, retry=NEVER)),
    (InvalidRequest, Kind(400, REQUEST)),
    (Unauthenticated, Kind(401, REQUEST, headers={"www-authenticate": "Bearer"})),
    (TooManyFailures, Kind(429, LIMIT, retry_after_seconds=FAILURES_SECONDS)),
    (Forbidden, Kind(403, REQUEST)),
    (NotFound, Kind(404, REQUEST)),
    (Busy, Kind(503, OVERLOADED, retry_after_seconds=BUSY_SECONDS)),
    (ListingTooSlow, Kind(504, SERVER, retry=NEVER)),
    (Unavailable, Kind(503, OVERLOADED, retry_after_seconds=STORE_AWAY_SECONDS)),
    (PenstockError, Kind(500, SERVER, retry=NEVER)),
)
"""First match wins."""

BUDGET = Kind(429, QUOTA, "project_spend_limit_exceeded", retry=NEVER)
WAITING = Kind(429, LIMIT, "rate_limit_exceeded", retry_after_seconds=LIMIT_SECONDS)
SHARE_USED_UP = Kind(429, LIMIT, "tenant_share", retry_after_seconds=LIMIT_SECONDS)
UNUSABLE = Kind(422, OUTPUT, retry=NEVER)
UPSTREAM = Kind(502, SERVER, retry=NEVER)

ACCOUNT_REFUSED = Kind(503, OVERLOADED, "provider_account_refused", retry=NEVER)
"""The provider refuses our key or payment, which the caller cannot fix."""

BY_REASON: Mapping[str, Kind] = {
    DeadReason.INVALID_OUTPUT: UNUSABLE,
    DeadReason.CONTRACT_VIOLATION: UNUSABLE,
    DeadReason.TRUNCATED: UNUSABLE,
    DeadReason.REFUSED: UNUSABLE,
    DeadReason.TOO_LARGE: Kind(400, REQUEST),
    DeadReason.BAD_REQUEST: Kind(400, REQUEST),
    DeadReason.MODEL_NOT_FOUND: Kind(404, REQUEST),
    DeadReason.BUDGET: BUDGET,
    RefusalReason.PACE: BUDGET,
    RefusalReason.TOO_MANY_BUDGETS: BUDGET,
    DeadReason.UNKNOWN_PRICE: Kind(400, REQUEST, retry=NEVER),
    DeadReason.TRIES_EXHAUSTED: UPSTREAM,
    DeadReason.AMBIGUOUS: Kind(504, SERVER, retry=NEVER),
    DeadReason.CALLER_LOST: UPSTREAM,
    DeadReason.POISON: UPSTREAM,
    DeadReason.INTERNAL_ERROR: Kind(500, SERVER, retry=NEVER),
    DeadReason.UNKNOWN: UPSTREAM,
    **dict.fromkeys(WaitReason, WAITING),
    **dict.fromkeys((TroubleKind.AUTH, TroubleKind.MONEY), ACCOUNT_REFUSED),
    **dict.fromkeys(TENANT_REASONS, SHARE_USED_UP),
    RefusalReason.TENANT_TOO_LARGE: Kind(400, REQUEST),
    RefusalReason.UNKNOWN_MODEL: Kind(404, REQUEST),
    RefusalReason.ACCOUNT_STOPPED: Kind(503, OVERLOADED, "provider_account_stopped", retry=NEVER),
    RefusalReason.STALE_EPOCH: Kind(503, OVERLOADED, retry_after_seconds=STORE_AWAY_SECONDS),
    RefusalReason.STALE_WINDOW: Kind(503, OVERLOADED, retry_after_seconds=STORE_AWAY_SECONDS),
    RefusalReason.NOT_READY: Kind(503, OVERLOADED, retry_after_seconds=STORE_AWAY_SECONDS),
}
"""Why a synchronous job has no reply. An ambiguous one may have been billed."""

BY_STATE: Mapping[JobState, Kind] = {
    JobState.EXPIRED: Kind(504, SERVER, "deadline_exceeded", retry=NEVER),
    JobState.CANCELLED: Kind(503, OVERLOADED, "upstream_unavailable", retry_after_seconds=LIMIT_SECONDS),
}
STILL_RUNNING = Kind(409, REQUEST, "request_in_progress", retry=True, retry_after_seconds=STILL_RUNNING_SECONDS)

BY_STATUS = {
    404: "unknown_url",
    405: "method_not_supported",
}


def _object(message: str, kind: str, param: str | None, code: str | None) -> JsonObject:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


BUG = _object("Something went wrong on our side; the request id names it.", SERVER, None, "internal_error")


def kind_of(error: PenstockError) -> Kind:
    """Return how this error is reported."""
    if isinstance(error, NotCompleted):
        return _kind_of_result(error.result)
    return next(kind for family, kind in BY_FAMILY if isinstance(error, family))


def error_object(error: PenstockError) -> JsonObject:
    """Return OpenAI's error object, for a body or an SSE event."""
    kind = kind_of(error)
    code = kind.code or (error.result.dead_reason if isinstance(error, NotCompleted) else error.code)
    return _object(_message(error), kind.type, error.param, code)


def answer(error: PenstockError) -> Json:
    """Return the error response."""
    kind = kind_of(error)
    return Json(error_object(error), status_code=kind.status, headers=_headers(kind))


def unready(checks: Mapping[str, str | None]) -> Json:
    """Return a failed readiness probe's response. `checks` maps a check to its complaint, or None."""
    wrong = " ".join(f"{name}: {complaint}" for name, complaint in checks.items() if complaint)
    error = _object(wrong, OVERLOADED, None, "not_ready")
    headers = {"retry-after": str(STORE_AWAY_SECONDS)}
    return Json({"status": "unavailable", "checks": dict(checks)} | error, status_code=503, headers=headers)


def install(app: FastAPI) -> None:
    """Register handlers that answer every error in OpenAI's shape."""
    app.exception_handler(PenstockError)(_penstock_error)
    app.exception_handler(RequestValidationError)(_wrong_parameter)
    app.exception_handler(HTTPException)(_http_error)
    app.exception_handler(ClientGone)(_nobody_there)
    app.exception_handler(ClientDisconnect)(_nobody_there)
    app.exception_handler(Exception)(_bug)


async def _penstock_error(request: Request, error: PenstockError) -> Json:
    if isinstance(error, InvalidRequest):
        await rest_after(request)
    return answer(error)


async def _nobody_there(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


async def _wrong_parameter(_: Request, error: RequestValidationError) -> Json:
    first = error.errors()[0]
    return answer(InvalidRequest(first["msg"], param=".".join(str(step) for step in first["loc"][1:]) or None))


async def _http_error(request: Request, error: HTTPException) -> Json:
    message = f"{error.detail}: {request.method} {request.url.path}"
    body = _object(message, REQUEST, None, BY_STATUS.get(error.status_code, "invalid_request"))
    return Json(body, status_code=error.status_code, headers=error.headers)


async def _bug(request: Request, _: Exception) -> Json:
    """Answer a bug; the server logs its traceback."""
    request_id = request.scope.get("state", {}).get("request_id", "")
    return Json(BUG, status_code=500, headers={"x-request-id": request_id, "x-should-retry": "false"})


def _kind_of_result(result: JobResult) -> Kind:
    if result.dead_reason is not None and result.dead_reason in BY_REASON:
        return BY_REASON[result.dead_reason]
    if not result.state.at_rest:
        return STILL_RUNNING
    return BY_STATE.get(result.state, UPSTREAM)


def _message(error: PenstockError) -> str:
    """Return the message, or Unavailable's docstring: a store's text may contain an address."""
    return (type(error).__doc__ or "") if isinstance(error, Unavailable) else error.message


def _sentence(result: JobResult) -> str:
    return f"The request ended without an answer: {result.dead_reason or result.state}."


def _headers(kind: Kind) -> dict[str, str]:
    headers = dict(kind.headers)
    if kind.retry is not None:
        headers["x-should-retry"] = str(kind.retry).lower()
    if kind.retry_after_seconds is not None:
        headers["retry-after"] = str(kind.retry_after_seconds)
    return headers
