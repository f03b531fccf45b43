"""The classification table: code before status, doubt before certainty, no key in any message."""

import ssl

import aiohttp
import httpx2
import pytest
from aiohttp.client_reqrep import ConnectionKey
from openai import APIConnectionError, APITimeoutError

from providers.account.errors import (
    MAX_MESSAGE_CHARACTERS,
    error_in,
    error_object,
    kind_of_error,
    kind_of_failure,
    message_of,
    redacted,
)
from schemas.reply import TroubleKind as Kind

REQUEST = httpx2.Request("POST", "http://127.0.0.1/")
KEY = ConnectionKey("127.0.0.1", 80, False, True, None, None, None, None)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "rate_limit_exceeded", Kind.THROTTLE),
        (429, None, Kind.THROTTLE),
        (429, "slow_down", Kind.RAMP),
        (503, "slow_down", Kind.RAMP),
        (429, "insufficient_quota", Kind.MONEY),
        (429, "credit_balance_exhausted", Kind.MONEY),
        (429, "organization_spend_limit_exceeded", Kind.MONEY),
        (429, "project_spend_limit_exceeded", Kind.MONEY),
        (429, "organization_usage_limit_exceeded", Kind.MONEY),
        (429, "billing_hard_limit_reached", Kind.MONEY),
        (429, "enforced_spend_limit_reached", Kind.MONEY),
        (402, None, Kind.MODEL_FORBIDDEN),
        (403, "Insufficient_Quota", Kind.MONEY),
        (403, "account_deactivated", Kind.AUTH),
        (429, "billing_hard_limit", Kind.MONEY),
        (451, None, Kind.FORBIDDEN),
        (400, "context_length_exceeded", Kind.TOO_LARGE),
        (413, None, Kind.TOO_LARGE),
        (400, None, Kind.BAD_REQUEST),
        (422, "anything", Kind.BAD_REQUEST),
        (401, "invalid_api_key", Kind.AUTH),
        (401, None, Kind.AUTH),
        (403, None, Kind.FORBIDDEN),
        (403, "permission-denied", Kind.FORBIDDEN),
        (404, "model_not_found", Kind.MODEL_NOT_FOUND),
        (400, "model_not_found", Kind.MODEL_NOT_FOUND),
        (408, None, Kind.AMBIGUOUS),
        (409, None, Kind.SERVER),
        (500, None, Kind.SERVER),
        (502, None, Kind.SERVER),
        (503, "server_is_overloaded", Kind.SERVER),
        (529, None, Kind.SERVER),
        (302, None, Kind.UNKNOWN),
        (418, "teapot", Kind.UNKNOWN),
        (None, "rate_limit_exceeded", Kind.THROTTLE),
        (None, "teapot", Kind.UNKNOWN),
    ],
)
def test_code_decides_before_status(status: int | None, code: str | None, kind: Kind) -> None:
    assert kind_of_error({"message": "m", "type": "t", "param": None, "code": code}, status) is kind


@pytest.mark.parametrize(
    ("type_", "kind"),
    [("insufficient_quota", Kind.MONEY), ("overloaded_error", Kind.SERVER), ("requests", Kind.THROTTLE)],
)
def test_type_decides_where_the_code_is_not_known(type_: str, kind: Kind) -> None:
    assert kind_of_error({"type": type_, "code": None}, 429) is kind


def test_a_request_that_no_wait_would_fit_is_too_large() -> None:
    error = {"code": "rate_limit_exceeded", "message": "Request too large for m: Limit 30000, Requested 60000."}

    assert kind_of_error(error, 429) is Kind.TOO_LARGE


VERDICTS: list[tuple[int, str, Kind, str]] = [
    # of a request
    (
        403,
        '{"code":"permission-denied","error":"Content violates usage guidelines. "}',
        Kind.FORBIDDEN,
        "violates usage",
    ),
    (
        403,
        "<!DOCTYPE html><html><head><title>Attention Required! | WAF</title>",
        Kind.FORBIDDEN,
        "Attention Required! | WAF",
    ),
    (403, "<html><body>api key invalid, billing hard limit</body></html>", Kind.FORBIDDEN, "without saying why"),
    (403, "", Kind.FORBIDDEN, "without saying why"),
    (403, "[]", Kind.FORBIDDEN, "without saying why"),
    (403, "null", Kind.FORBIDDEN, "without saying why"),
    (403, '"Access denied"', Kind.FORBIDDEN, "without saying why"),
    (403, '{"error":{"type":"permission_error","message":"Not for this resource."}}', Kind.FORBIDDEN, "Not for this"),
    (
        403,
        '{"error":{"message":"Flagged: my api key is invalid_api_key, billing","code":403}}',
        Kind.FORBIDDEN,
        "Flagged",
    ),
    (
        402,
        '{"error":{"message":"This model requires credits.","code":402}}',
        Kind.MODEL_FORBIDDEN,
        "This model requires",
    ),
    (
        402,
        '{"error":{"message":"This request requires more credits, or fewer max_tokens."}}',
        Kind.MODEL_FORBIDDEN,
        "fewer",
    ),
    (402, '{"error":{"message":"Insufficient credits for model m, upgrade."}}', Kind.MODEL_FORBIDDEN, "for model"),
    (402, "<html>billing</html>", Kind.MODEL_FORBIDDEN, "without saying why"),
    (402, "", Kind.MODEL_FORBIDDEN, "without saying why"),
    (402, '{"error":{"message":"' + "x" * 90 + ' insufficient balance"}}', Kind.MODEL_FORBIDDEN, "xxx"),
    # of the account
    (401, '{"error":{"code":"invalid_api_key","message":"Incorrect API key."}}', Kind.AUTH, "Incorrect API key"),
    (401, '{"error":"Unauthorized"}', Kind.AUTH, "Unauthorized"),
    (401, "", Kind.AUTH, "without saying why"),
    (
        402,
        '{"error":{"message":"Insufficient Balance","code":"invalid_request_error"}}',
        Kind.MONEY,
        "Insufficient Balance",
    ),
    (402, '{"error":{"message":"Insufficient credits. Add more.","code":402}}', Kind.MONEY, "Insufficient credits"),
    (403, '{"error":{"code":"Arrearage","message":"Access denied."}}', Kind.MONEY, "Access denied"),
    (403, '{"error":{"code":"account_deactivated","message":"Deactivated."}}', Kind.AUTH, "Deactivated"),
    (429, '{"error":{"code":"insufficient_quota","message":"Quota."}}', Kind.MONEY, "Quota"),
    # beside what is no strict JSON
    (429, '{"error":{"code":"insufficient_quota","message":"Quota.","balance":NaN}}', Kind.MONEY, "Quota"),
    (400, '{"error":{"code":"invalid_api_key","message":"Wrong key."},"cost":1e400}', Kind.AUTH, "Wrong key"),
    (400, '{"error":{"message":"Request too large for m.","limit":Infinity}}', Kind.TOO_LARGE, "Request too large"),
]


@pytest.mark.parametrize(("status", "text", "kind", "says"), VERDICTS)
def test_an_account_is_refused_only_where_its_key_or_its_money_is_named(
    status: int, text: str, kind: Kind, says: str
) -> None:
    error = error_in(text)

    assert kind_of_error(error, status) is kind
    assert says in message_of(error, status, "")


def os_error() -> OSError:
    return ConnectionRefusedError(111, "refused")


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (aiohttp.ClientConnectorError(KEY, os_error()), Kind.NOT_SENT),
        (aiohttp.ClientConnectorDNSError(KEY, os_error()), Kind.NOT_SENT),
        (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError("no")), Kind.NOT_SENT),
        (aiohttp.ConnectionTimeoutError("connect"), Kind.NOT_SENT),
        (aiohttp.ServerDisconnectedError(), Kind.AMBIGUOUS),
        (aiohttp.ClientOSError(104, "reset"), Kind.AMBIGUOUS),
        (aiohttp.ClientConnectionResetError("closing"), Kind.AMBIGUOUS),
        (aiohttp.SocketTimeoutError("read"), Kind.AMBIGUOUS),
        (aiohttp.ClientPayloadError("cut"), Kind.AMBIGUOUS),
    ],
)
def test_only_failures_before_a_connection_stands_are_not_sent(cause: Exception, kind: Kind) -> None:
    """The SDK's transport calls most of these a connect time-out."""
    error = APITimeoutError(request=REQUEST)
    transport = httpx2.ConnectTimeout("said by the transport")
    error.__cause__, transport.__cause__ = transport, cause

    assert kind_of_failure(error) is kind


def test_a_failure_of_unknown_cause_is_ambiguous() -> None:
    assert kind_of_failure(APIConnectionError(request=REQUEST)) is Kind.AMBIGUOUS


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": {"code": "c"}}, {"code": "c"}),
        ({"code": "c"}, {"code": "c"}),
        ({"error": "plain words"}, {"message": "plain words"}),
        ({"error": "plain words", "code": "c"}, {"message": "plain words", "code": "c"}),
        ("<html>prompt</html>", {}),
        (None, {}),
        (object(), {}),
    ],
)
def test_an_error_is_found_in_whatever_shape(body: object, error: dict[str, str]) -> None:
    assert error_object(body) == error


@pytest.mark.parametrize("said", ["key sk-proj-abc_123XYZ here", "Bearer abc.def", "my-own-secret is wrong"])
def test_keys_do_not_reach_messages(said: str) -> None:
    text = message_of({"message": said}, 401, "my-own-secret")

    assert "[redacted]" in text
    assert not any(secret in text for secret in ("abc", "my-own-secret"))


def test_messages_are_bounded() -> None:
    assert len(redacted("x" * 10_000, "")) == MAX_MESSAGE_CHARACTERS
