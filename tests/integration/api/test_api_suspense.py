"""Calls that may have been billed: listed with who will resolve them, resolved once by an operator, and counted."""

import os
import subprocess
import sys
import uuid
from datetime import datetime, timedelta
from decimal import Decimal

import httpx2
import pytest

from cli.commands.budgets import SUSPENSE_COLUMNS
from config.exit_codes import ExitCode
from schemas.jsons import JsonObject
from tasks.ledger.reconciliation import PRESUME_AFTER_SECONDS
from tests.integration.api.conftest import ADMIN, Premises
from tests.support.own_process import CHECKOUT
from tests.support.web_process import error_of, eventually


def suspended(operator: httpx2.Client, tenant: str) -> list[JsonObject]:
    rows = operator.get("/budgets/suspense", params={"limit": 100}).json()["data"]
    return [row for row in rows if row["tenant_id"] == tenant]


@pytest.fixture
def row(caller: httpx2.Client, operator: httpx2.Client, tenant: str) -> JsonObject:
    """An attempt whose answer never came, of a job that is at rest, under a budget of its tenant."""
    operator.post("/budgets", json={"scope": f"tenant:{tenant}", "window": "month", "limit_usd": "5"})
    eventually(lambda: budget(operator, tenant), bool)
    said = [{"role": "user", "content": f"[[scenario:reset_after]] {uuid.uuid4().hex}"}]
    caller.post("/v1/chat/completions", json={"model": "small", "messages": said, "deadline_seconds": 0.3})
    rows = eventually(lambda: suspended(operator, tenant), lambda found: found and found[0]["job_state"] == "expired")
    return rows[0]


def others_of(row: JsonObject, operator: httpx2.Client, tenant: str) -> dict[str, Decimal]:
    """What else is in suspense, by id: a job may have time for a second try before its deadline."""
    return {
        each["id"]: Decimal(each["reserved_usd"]) for each in suspended(operator, tenant) if each["id"] != row["id"]
    }


def budget(operator: httpx2.Client, tenant: str) -> JsonObject:
    rows: list[JsonObject] = operator.get("/budgets").json()["data"]
    return next((row for row in rows if row["scope"] == f"tenant:{tenant}"), {})


def resolve(operator: httpx2.Client, row: JsonObject, **word: object) -> httpx2.Response:
    return operator.post(f"/budgets/suspense/{row['id']}", json=word)


def penstock(premises: Premises, *words: str, code: int = ExitCode.OK) -> "subprocess.CompletedProcess[str]":
    ended = subprocess.run(
        [sys.executable, "-m", "cli", "budgets", "suspense", *words],
        cwd=CHECKOUT,
        env=os.environ | {"PENSTOCK_URL": premises.api.url, "PENSTOCK_API_KEY": ADMIN},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    return ended


def test_suspense_says_what_is_held_why_and_who_will_resolve_it_when(row: JsonObject, tenant: str) -> None:
    opened_at, presumed_at = (datetime.fromisoformat(row[name]) for name in ("opened_at", "presumed_at"))

    assert (row["outcome"], row["why"]) == ("ambiguous", "it was sent, and no answer came")
    assert [counter for counter in row["counters"] if counter.startswith(f"tenant:{tenant}/")]
    assert float(row["reserved_usd"]) > 0
    assert (row["resolved_by"], row["resolved_at"]) == ("presumption", row["presumed_at"])
    assert presumed_at - opened_at == timedelta(seconds=PRESUME_AFTER_SECONDS)
    assert opened_at <= datetime.fromisoformat(row["since"])
    assert set(SUSPENSE_COLUMNS) <= set(row)


def test_a_resolution_is_booked_once_in_both_stores_and_seen_in_the_ledger(
    row: JsonObject, operator: httpx2.Client, tenant: str
) -> None:
    before, others = budget(operator, tenant), others_of(row, operator, tenant)

    answers = [resolve(operator, row, billed_usd="0.0001") for _ in range(2)]

    after = budget(operator, tenant)
    told = answers[0].json()
    assert [answer.status_code for answer in answers] == [200, 200]
    assert (told["state"], told["billed_usd"], told) == ("posted", "0.000100000", answers[1].json())
    assert Decimal(before["reserved_usd"]) - Decimal(after["reserved_usd"]) == Decimal(row["reserved_usd"])
    assert Decimal(after["reserved_usd"]) == sum(others.values())
    assert (before["settled_usd"], after["settled_usd"]) == ("0.000000000", "0.000100000")
    [spent] = operator.get("/budgets/report", params={"by": "cause", "tenant": tenant}).json()["data"]
    assert (spent["cause"], spent["entries"], spent["spent_usd"]) == ("duplicate", 1, "0.000100000")
    story = operator.get(f"/jobs/{row['job_id']}", headers={"x-penstock-tenant": tenant}).json()
    assert (story["cost_usd"], story["attempts"][0]["outcome"]) == ("0.000100000", "operator")
    assert others_of({"id": None}, operator, tenant) == others


def test_an_unbilled_charge_is_released_and_its_entry_is_in_the_ledger(
    row: JsonObject, operator: httpx2.Client, tenant: str
) -> None:
    told = [resolve(operator, row, released=True).json()["state"] for _ in range(2)]

    after = budget(operator, tenant)
    assert told == ["released", "released"]
    assert Decimal(after["reserved_usd"]) == sum(others_of(row, operator, tenant).values())
    assert after["settled_usd"] == "0.000000000"
    [entry] = operator.get("/budgets/report", params={"by": "tenant", "tenant": tenant}).json()["data"]
    assert (entry["entries"], entry["spent_usd"]) == (1, "0.000000000")


def test_another_word_than_the_one_that_stands_is_refused(row: JsonObject, operator: httpx2.Client) -> None:
    resolve(operator, row, billed_usd=0)

    otherwise = [resolve(operator, row, released=True), resolve(operator, row, billed_usd="0.0002")]

    assert [answer.status_code for answer in otherwise] == [400, 400]
    assert "was booked before at 0.000000000 USD (operator)" in error_of(otherwise[0])["message"]


@pytest.mark.parametrize(
    "word", [{}, {"billed_usd": "1", "released": True}, {"billed_usd": "-1"}, {"billed_usd": "1e30"}, {"paid": 1}]
)
def test_a_word_that_says_nothing_is_refused(operator: httpx2.Client, word: JsonObject) -> None:
    assert resolve(operator, {"id": "att_1"}, **word).status_code == 400


def test_only_operators_see_suspense_and_an_unknown_attempt_is_not_found(
    caller: httpx2.Client, operator: httpx2.Client
) -> None:
    assert caller.get("/budgets/suspense").status_code == 403
    assert caller.post("/budgets/suspense/att_1", json={"released": True}).status_code == 403
    assert resolve(operator, {"id": "att_1"}, released=True).status_code == 404


def test_the_command_lists_and_resolves(row: JsonObject, premises: Premises, operator: httpx2.Client) -> None:
    listed = penstock(premises).stdout
    wrong = penstock(premises, "--resolve", row["id"], code=ExitCode.USAGE).stderr
    said = [penstock(premises, "--resolve", row["id"], "--billed", "0.0001").stderr for _ in range(2)]
    otherwise = penstock(premises, "--resolve", row["id"], "--released", code=ExitCode.FAILURE).stderr

    header, *lines = listed.splitlines()
    assert tuple(header.split("\t")) == SUSPENSE_COLUMNS
    assert [line for line in lines if line.startswith(row["id"]) and "no answer came" in line]
    assert "either --billed USD or --released" in wrong
    assert said == [f"{row['id']} is posted at 0.000100000 USD; {row['reserved_usd']} were reserved\n"] * 2
    assert "was booked before" in otherwise
