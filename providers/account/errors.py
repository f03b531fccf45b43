"""Classifies provider errors by `error.code`, then type, status and exception.

AUTH and MONEY stop an account for all tenants, so they need a code, a 401, or a 402 whose first words name the money.
Invariants: `not_sent` only if certainly no byte left, else `ambiguous`; no message contains a key.
"""

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus

import aiohttp

from schemas.jsons import JsonObject, MalformedJson, parse_reply
from schemas.reply import TroubleKind

MAX_MESSAGE_CHARACTERS = 300
"""Enough for a sentence and its figures, too little for a prompt."""

KIND_BY_CODE: Mapping[str, TroubleKind] = {
    "rate_limit_exceeded": TroubleKind.THROTTLE,
    "resource_unavailable": TroubleKind.THROTTLE,
    "slow_down": TroubleKind.RAMP,
    "insufficient_quota": TroubleKind.MONEY,
    "credit_balance_exhausted": TroubleKind.MONEY,
    "organization_spend_limit_exceeded": TroubleKind.MONEY,
    "project_spend_limit_exceeded": TroubleKind.MONEY,
    "organization_usage_limit_exceeded": TroubleKind.MONEY,
    "billing_hard_limit_reached": TroubleKind.MONEY,
    "billing_hard_limit": TroubleKind.MONEY,
    "billing_not_active": TroubleKind.MONEY,
    "insufficient_balance": TroubleKind.MONEY,
    "insufficient_credits": TroubleKind.MONEY,
    "arrearage": TroubleKind.MONEY,
    "enforced_spend_limit_reached": TroubleKind.MONEY,
    "context_length_exceeded": TroubleKind.TOO_LARGE,
    "request_too_large": TroubleKind.TOO_LARGE,
    "invalid_api_key": TroubleKind.AUTH,
    "incorrect_api_key": TroubleKind.AUTH,
    "expired_api_key": TroubleKind.AUTH,
    "account_deactivated": TroubleKind.AUTH,
    "account_suspended": TroubleKind.AUTH,
    "organization_deactivated": TroubleKind.AUTH,
    "ip_not_authorized": TroubleKind.AUTH,
    "unsupported_country_region_territory": TroubleKind.AUTH,
    "model_not_found": TroubleKind.MODEL_NOT_FOUND,
    "server_error": TroubleKind.SERVER,
    "server_is_overloaded": TroubleKind.SERVER,
    "overloaded_error": TroubleKind.SERVER,
}

KIND_BY_TYPE: Mapping[str, TroubleKind] = {
    "insufficient_quota": TroubleKind.MONEY,
    "authentication_error": TroubleKind.AUTH,
    "permission_error": TroubleKind.FORBIDDEN,
    "overloaded_error": TroubleKind.SERVER,
    "server_error": TroubleKind.SERVER,
    "service_unavailable_error": TroubleKind.SERVER,
}
"""Consulted only for unknown codes; each type has one meaning."""

KIND_BY_STATUS: Mapping[int, TroubleKind] = {
    HTTPStatus.BAD_REQUEST: TroubleKind.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED: TroubleKind.AUTH,
    HTTPStatus.PAYMENT_REQUIRED: TroubleKind.MODEL_FORBIDDEN,
    HTTPStatus.FORBIDDEN: TroubleKind.FORBIDDEN,
    HTTPStatus.NOT_FOUND: TroubleKind.MODEL_NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: TroubleKind.AMBIGUOUS,
    HTTPStatus.CONFLICT: TroubleKind.SERVER,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TroubleKind.TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY: TroubleKind.BAD_REQUEST,
    HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS: TroubleKind.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS: TroubleKind.THROTTLE,
}

NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
)
"""aiohttp's errors before a connection exists. A connection lost later had the request written, although the SDK calls
it a connect time-out."""

NAMED_WITHIN_CHARACTERS = 80
"""A 402 concerns the account's money only if it says so this early; otherwise the model."""

_NO_MONEY = re.compile(
    r"(insufficient|not enough|no|out of|too low) (account )?(balance|credits?|funds|quota)"
    r"|balance is (too low|insufficient|exhausted)|exceeded your current quota|billing|payment method",
    re.IGNORECASE,
)
_OF_ONE_MODEL = re.compile(r"\bmodels?\b|max_tokens|this request|can only afford|upgrade", re.IGNORECASE)

_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{1,200})", re.IGNORECASE)
_TITLE_WITHIN_CHARACTERS = 4_000

_TOO_LARGE = re.compile(r"request too large|maximum context length", re.IGNORECASE)
_SECRETS = re.compile(r"\b(?:sk|pk|rk|key)-[^\s\"',;)]{4,}|(?i:bearer)\s+\S+")
_REDACTED = "[redacted]"


def kind_of_error(error: JsonObject, status: int | None) -> TroubleKind:
    """Classify an error object; `status` is None within a stream."""
    kind = _by_words(_field(error, "code").lower(), _field(error, "type").lower(), status)
    if kind is TroubleKind.MODEL_FORBIDDEN and _names_the_money(_field(error, "message")):
        return TroubleKind.MONEY
    if kind in {TroubleKind.THROTTLE, TroubleKind.BAD_REQUEST} and _TOO_LARGE.search(_field(error, "message")):
        return TroubleKind.TOO_LARGE
    return kind


def kind_of_failure(error: BaseException) -> TroubleKind:
    """Classify a transport exception by its innermost aiohttp error."""
    causes = [cause for cause in _chain(error) if isinstance(cause, aiohttp.ClientError)]
    return TroubleKind.NOT_SENT if causes and isinstance(causes[-1], NOT_SENT) else TroubleKind.AMBIGUOUS


def name_of_failure(error: BaseException) -> str:
    """Return the failure's class name, which holds no address or body."""
    return type(next((cause for cause in _chain(error) if isinstance(cause, aiohttp.ClientError)), error)).__name__


def error_object(body: object) -> JsonObject:
    """Return the error within a body of any shape; empty if none."""
    inner = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(inner, dict):
        return inner
    if not isinstance(inner, str) or not isinstance(body, dict):
        return {}
    return {name: body[name] for name in ("code", "type") if name in body} | {"message": inner}


def error_in(text: str) -> JsonObject:
    """Return the error of a refusal: its object, or an HTML page's title."""
    try:
        return error_object(parse_reply(text))
    except MalformedJson:
        title = _TITLE.search(text[:_TITLE_WITHIN_CHARACTERS])
        return {"message": f"The provider answered with a page: {title[1].strip()}"} if title else {}


def message_of(error: JsonObject, status: int | None, key: str) -> str:
    """Return the provider's message, cut and without keys, or one of ours."""
    message = _field(error, "message")
    if not message:
        return f"The provider answered {status} without saying why." if status else "The provider reported an error."
    return redacted(message, key)


def code_of(error: JsonObject) -> str | None:
    """Return the code, else the type, cut to 100 characters."""
    return (_field(error, "code") or _field(error, "type"))[:100] or None


def redacted(text: str, key: str) -> str:
    """Cut a text, and redact the key and similar secrets."""
    hidden = text.replace(key, _REDACTED) if key else text
    return _SECRETS.sub(_REDACTED, hidden)[:MAX_MESSAGE_CHARACTERS]


def _by_words(code: str, type_: str, status: int | None) -> TroubleKind:
    kind = KIND_BY_CODE.get(code) or KIND_BY_TYPE.get(type_)
    if kind is not None:
        return kind
    if status is None:
        return TroubleKind.UNKNOWN
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return TroubleKind.SERVER
    return KIND_BY_STATUS.get(status, TroubleKind.UNKNOWN)


def _names_the_money(message: str) -> bool:
    return bool(_NO_MONEY.search(message[:NAMED_WITHIN_CHARACTERS])) and not _OF_ONE_MODEL.search(message)


def _field(error: JsonObject, name: str) -> str:
    value = error.get(name)
    return str(value) if isinstance(value, str | int) else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
