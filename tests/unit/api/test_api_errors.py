"""How an end without an answer is told: its status, its code, and whether asking again may help."""

from urllib.parse import unquote

import orjson
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.answers import Json
from api.errors import BY_REASON, Busy, NotCompleted, SlowRequest, TooManyHeaders, answer, install
from api.openai.chat import waiting_headers
from schemas.admission import RefusalReason, WaitReason
from schemas.decision import DeadReason
from schemas.errors import PenstockError, TooManyFailures
from schemas.jsons import parse
from schemas.states import JobState
from tests.support.rests import a_rest


@pytest.mark.parametrize(
    ("reason", "status", "code", "retry"),
    [
        ("invalid_output", 422, "invalid_output", "false"),
        ("refused", 422, "refused", "false"),
        ("bad_request", 400, "bad_request", None),
        ("unknown_price", 400, "unknown_price", "false"),
        ("tries_exhausted", 502, "tries_exhausted", "false"),
        ("ambiguous", 504, "ambiguous", "false"),
        ("budget", 429, "project_spend_limit_exceeded", "false"),
        ("requests_per_minute", 429, "rate_limit_exceeded", None),
        ("account_stopped", 503, "provider_account_stopped", "false"),
    ],
)
def test_a_reason_has_its_status(reason: str, status: int, code: str, retry: str | None) -> None:
    told = answer(NotCompleted(a_rest(JobState.DEAD, dead_reason=reason)))

    assert (told.status_code, orjson.loads(told.body)["error"]["code"]) == (status, code)
    assert told.headers.get("x-should-retry") == retry


@pytest.mark.parametrize(
    ("state", "status", "code", "retry"),
    [
        (JobState.CANCELLED, 503, "upstream_unavailable", None),
        (JobState.EXPIRED, 504, "deadline_exceeded", "false"),
        (JobState.RUNNING, 409, "request_in_progress", "true"),
    ],
)
def test_a_state_without_a_reason_has_its_status(state: JobState, status: int, code: str, retry: str | None) -> None:
    told = answer(NotCompleted(a_rest(state)))

    assert (told.status_code, orjson.loads(told.body)["error"]["code"]) == (status, code)
    assert told.headers.get("x-should-retry") == retry


def test_a_bug_says_little_and_is_not_retried() -> None:
    app = FastAPI()
    install(app)

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("postgresql://secret@host")

    with TestClient(app, raise_server_exceptions=False) as client:
        told = client.get("/bug")

    assert (told.status_code, told.headers["x-should-retry"]) == (500, "false")
    assert "secret" not in told.text
    assert told.json()["error"]["code"] == "internal_error"


def test_only_a_call_that_waited_says_how_long_where_and_what_served_it() -> None:
    waited = a_rest(JobState.COMPLETED, wait_ms=40, served_by="m-1")

    assert waiting_headers(waited) == {
        "x-penstock-wait-ms": "40",
        "x-penstock-lane": "normal",
        "x-penstock-tier": "m-1",
    }
    assert waiting_headers(a_rest(JobState.COMPLETED, served_by="m-1")) == {}


@pytest.mark.parametrize("name", ["m\u00e9", "\u6a21\u578b", "a b\r\nset-cookie: x", " ", "100%"])
def test_any_name_of_a_model_fits_a_header(name: str) -> None:
    told = waiting_headers(a_rest(JobState.COMPLETED, wait_ms=40, served_by=name))["x-penstock-tier"]

    assert (unquote(told), told.isascii(), told.isprintable(), told.strip()) == (name, True, True, told)


def test_every_reason_has_its_status() -> None:
    assert {*DeadReason, *RefusalReason, *WaitReason} <= set(BY_REASON)


def test_an_answer_keeps_the_digits_of_what_is_stored() -> None:
    stored = parse(b'{"wei":100000000000000000001,"rate":0.12345678901234567890123}')

    assert Json(stored).body == b'{"wei":100000000000000000001,"rate":0.12345678901234567890123}'


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (TooManyFailures(), 429, "too_many_wrong_keys", "1"),
        (Busy(), 503, "busy", "2"),
        (SlowRequest(), 408, "request_timeout", None),
        (TooManyHeaders(), 431, "request_head_too_large", None),
    ],
)
def test_what_is_refused_for_its_cost_says_when_to_come_again(
    error: PenstockError, status: int, code: str, retry_after: str | None
) -> None:
    told = answer(error)

    assert (told.status_code, orjson.loads(told.body)["error"]["code"]) == (status, code)
    assert told.headers.get("retry-after") == retry_after
