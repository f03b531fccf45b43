"""An account that a provider's word has stopped is opened again by an operator, and by nobody else."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import httpx2
import pytest

from config.exit_codes import ExitCode
from tests.integration.api.conftest import ADMIN, Premises
from tests.support.own_process import CHECKOUT
from tests.support.web_process import error_of

ACCOUNT = "openai"


def ask(caller: httpx2.Client, words: str) -> httpx2.Response:
    said = [{"role": "user", "content": f"{words} {uuid.uuid4().hex}"}]
    return caller.post("/v1/chat/completions", json={"model": "small", "messages": said})


def open_account(operator: httpx2.Client, account: str = ACCOUNT) -> httpx2.Response:
    return operator.post("/limits/open", json={"account": account})


def shut_by(operator: httpx2.Client) -> set[str | None]:
    return {row["shut_by"] for row in operator.get("/limits").json()["data"]}


def events(premises: Premises) -> list[str]:
    return [line for line in premises.api.said().splitlines() if "account_opened" in line]


def penstock(premises: Premises, *words: str, code: int = ExitCode.OK) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "cli", "limits", "open", *words],
        cwd=CHECKOUT,
        env=os.environ | {"PENSTOCK_URL": premises.api.url, "PENSTOCK_API_KEY": ADMIN},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    return ended.stderr


@pytest.fixture
def stopped(caller: httpx2.Client, operator: httpx2.Client) -> Iterator[str]:
    """The account, of which the provider has told two jobs that it has no money; open again at the end."""
    for _ in range(2):
        assert ask(caller, "[[scenario:money]]").status_code >= 400
    yield ACCOUNT
    assert open_account(operator).status_code == 200


def test_a_stopped_account_serves_again_once_it_is_opened(
    stopped: str, caller: httpx2.Client, operator: httpx2.Client, premises: Premises
) -> None:
    refused, shut, said_before = ask(caller, "hi"), shut_by(operator), len(events(premises))

    first, second = (open_account(operator).json() for _ in range(2))

    assert (refused.status_code, error_of(refused)["code"]) == (503, "provider_account_stopped")
    assert shut == {"account_stopped"}
    assert first == {"id": stopped, "object": "account", "state": "open", "was_stopped_for": "insufficient_quota"}
    assert second == first | {"was_stopped_for": None}
    assert shut_by(operator) == {None}
    assert ask(caller, "hi").status_code == 200
    [event] = events(premises)[said_before:]
    assert stopped in event
    assert "insufficient_quota" in event
    assert "sk-" not in event


def test_a_refused_request_stops_no_account_and_shows_the_provider_message(
    caller: httpx2.Client, operator: httpx2.Client
) -> None:
    refused = [ask(caller, "[[scenario:forbidden]]") for _ in range(3)]

    assert {answer.status_code for answer in refused} == {400}
    assert {error_of(answer)["message"] for answer in refused} == {"Content violates usage guidelines."}
    assert shut_by(operator) == {None}
    assert ask(caller, "hi").status_code == 200


def test_whoever_stopped_an_account_does_not_stop_it_again_and_is_told_why(
    stopped: str, caller: httpx2.Client, operator: httpx2.Client
) -> None:
    open_account(operator, stopped)
    refused = ask(caller, "[[scenario:money]]")

    assert (refused.status_code, error_of(refused)["code"]) == (503, "provider_account_refused")
    assert "exceeded your current quota" in error_of(refused)["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert shut_by(operator) == {None}
    assert ask(caller, "hi").status_code == 200


def test_an_unknown_account_is_not_found_and_the_error_names_the_others(operator: httpx2.Client) -> None:
    answer = open_account(operator, "opnai")

    assert answer.status_code == 404
    assert error_of(answer)["message"] == f"There is no account 'opnai'; there are: {ACCOUNT}."


def test_whoever_is_no_operator_opens_nothing(stopped: str, caller: httpx2.Client, operator: httpx2.Client) -> None:
    assert open_account(caller, stopped).status_code == 403
    assert shut_by(operator) == {"account_stopped"}


@pytest.mark.parametrize("body", [{}, {"account": ""}, {"account": 1}, {"account": ACCOUNT, "force": True}])
def test_a_wrong_word_is_refused(operator: httpx2.Client, body: dict[str, object]) -> None:
    assert operator.post("/limits/open", json=body).status_code == 400


def test_the_command_says_what_the_account_was_stopped_for(stopped: str, premises: Premises) -> None:
    said = [penstock(premises, stopped) for _ in range(2)]
    unknown = penstock(premises, "opnai", code=ExitCode.NOT_FOUND)

    assert said == [
        "openai is open: it was stopped for insufficient_quota; its jobs wake within seconds\n",
        "openai is open: it was not stopped\n",
    ]
    assert "there are: openai" in unknown
