"""The doors of money: quotes for everybody, budgets for operators, gauges for scrapers."""

import httpx2
import pytest

from tests.integration.api.conftest import Premises, new_key
from tests.support.web_process import MESSAGES, a_batch_file, error_of, eventually

CHAT = {"model": "small", "messages": MESSAGES}


def test_a_single_request_is_quoted_and_not_sent(caller: httpx2.Client) -> None:
    answer = caller.post("/quote", json=CHAT)

    told = answer.json()
    assert (answer.status_code, told["object"], told["requests"]) == (200, "quote", 1)
    assert 0 < float(told["likely_usd"]) <= float(told["worst_case_usd"])
    assert caller.get("/jobs").json()["data"] == []


def test_any_caller_has_his_own_files_quoted_and_nobody_elses(
    caller: httpx2.Client, premises: Premises, operator: httpx2.Client, tenant: str
) -> None:
    other = new_key(operator, f"{tenant}-other")
    file = a_batch_file(caller)

    own = caller.post("/quote", json={"input_file_id": file})
    with premises.client(other) as stranger:
        theirs = stranger.post("/quote", json={"input_file_id": file})

    assert (own.status_code, own.json()["requests"]) == (200, 1)
    assert theirs.status_code == 404


@pytest.mark.parametrize("body", [{"model": "small"}, {"input_file_id": 7}, {"input_file_id": "a", "model": "small"}])
def test_what_is_neither_a_file_nor_a_request_is_refused(caller: httpx2.Client, body: dict[str, object]) -> None:
    assert error_of(caller.post("/quote", json=body))["type"] == "invalid_request_error"


def test_budgets_are_set_listed_and_reported_by_operators_alone(
    caller: httpx2.Client, operator: httpx2.Client, tenant: str
) -> None:
    given = {"scope": f"tenant:{tenant}", "window": "hour", "limit_usd": "5", "on_exhausted": ["park"]}
    caller.post("/v1/chat/completions", json=CHAT)
    asks = (("POST", "/budgets"), ("GET", "/budgets"), ("GET", "/budgets/report?by=tenant,day&days=7"))

    changed, listed, report = [operator.request(*ask, json=given) for ask in asks]
    refused = {caller.request(*ask, json=given).status_code for ask in asks}
    unknown = operator.post("/budgets", json=given | {"colour": "red"})

    [row] = [row for row in listed.json()["data"] if row["scope"] == given["scope"]]
    [spent] = [row for row in report.json()["data"] if row["tenant"] == tenant]
    assert changed.json()["limit_usd"] == "5"
    assert row["limit_usd"] == "5.000000000"
    assert float(spent["spent_usd"]) > 0
    assert refused == {403}
    assert error_of(unknown)["param"] == "colour"


def test_history_is_repriced_in_rounds_each_from_where_the_last_ended(
    caller: httpx2.Client, operator: httpx2.Client
) -> None:
    caller.post("/v1/chat/completions", json=CHAT)
    given = {"since": "2026-01-01T00:00:00+00:00", "dry_run": True}

    first = operator.post("/budgets/reprice", json=given).json()
    last = operator.post("/budgets/reprice", json=given | {"after": first["after"] or "att_z"}).json()
    wrong = [operator.post("/budgets/reprice", json={"since": since}) for since in ("soon", "2026-01-01", None)]

    assert first["checked"] > 0
    assert first["adjusted_usd"] == "0.000000000"
    assert (last["checked"], last["after"]) == (0, None)
    assert {error_of(each)["param"] for each in wrong} == {"since"}


def test_metrics_show_each_budget(operator: httpx2.Client) -> None:
    text = operator.get("/metrics").text

    for amount in ("limit", "settled", "reserved"):
        assert f'penstock_budget_usd{{amount="{amount}",scope="global"' in text


def test_a_caller_who_takes_anothers_name_spends_none_of_his_money(
    premises: Premises, caller: httpx2.Client, operator: httpx2.Client, tenant: str
) -> None:
    carol = f"carol-{tenant}"
    call = {**CHAT, "model": "dear", "user": carol, "max_completion_tokens": 4, "deadline_seconds": 5}
    worst = float(caller.post("/quote", json=call).json()["one_call_usd"])
    operator.post("/budgets", json={"scope": f"user:{carol}", "window": "month", "limit_usd": f"{worst * 1.05:.6f}"})
    other = new_key(operator, f"{tenant}-other")

    with premises.client(other) as theirs:
        eventually(
            lambda: theirs.post("/v1/chat/completions", json=call).status_code, lambda status: status == 429
        )  # from the moment at which the budget is in force, and its one call is spent
        own = [caller.post("/v1/chat/completions", json=call) for _ in range(2)]

    assert [answer.status_code for answer in own] == [200, 429]
    assert error_of(own[1])["code"] == "project_spend_limit_exceeded"
    scopes = {row["scope"] for row in operator.get("/budgets").json()["data"] if carol in row["scope"]}
    assert {f"user:{tenant}/{carol}", f"user:{tenant}-other/{carol}"} <= scopes
