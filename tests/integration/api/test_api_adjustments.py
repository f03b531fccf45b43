"""Adjustments by an invoice: over HTTP and by the command, booked once, with the ledger as their sum."""

import os
import subprocess
import sys
import uuid
from decimal import Decimal

import httpx2
import pytest

from config.exit_codes import ExitCode
from schemas.jsons import JsonObject
from tests.integration.api.conftest import ADMIN, Premises
from tests.support.own_process import CHECKOUT
from tests.support.web_process import MESSAGES, error_of, eventually


def spent(operator: httpx2.Client, tenant: str) -> Decimal:
    rows = operator.get("/budgets/report", params={"by": "tenant", "tenant": tenant}).json()["data"]
    return sum((Decimal(row["spent_usd"]) for row in rows), Decimal(0))


def job_of(operator: httpx2.Client, tenant: str) -> JsonObject:
    named = {"x-penstock-tenant": tenant}
    [job] = operator.get("/jobs", headers=named).json()["data"]
    story: JsonObject = operator.get(f"/jobs/{job['id']}", headers=named).json()
    return story


@pytest.fixture
def charge(caller: httpx2.Client, operator: httpx2.Client, tenant: str) -> JsonObject:
    """The attempt that completed a job, the only one of its tenant."""
    caller.post("/v1/chat/completions", json={"model": "small", "messages": MESSAGES})
    attempt: JsonObject = job_of(operator, tenant)["attempts"][-1]
    return attempt


def adjust(
    operator: httpx2.Client, charge: JsonObject, amount_usd: object, *, key: str | None = None, **changes: object
) -> httpx2.Response:
    body = {"attempt_id": charge["id"], "amount_usd": amount_usd, "note": "invoice 2026-11"} | changes
    return operator.post("/budgets/adjust", json=body, headers={"idempotency-key": key or uuid.uuid4().hex})


def test_an_adjustment_is_booked_once_and_the_ledger_is_the_sum(
    charge: JsonObject, operator: httpx2.Client, tenant: str
) -> None:
    before, key = Decimal(charge["cost_usd"]), uuid.uuid4().hex

    answers = [adjust(operator, charge, "0.25", key=key) for _ in range(2)]
    less = adjust(operator, charge, "-0.05").json()

    told = answers[0].json()
    assert [answer.status_code for answer in answers] == [200, 200]
    assert (told["id"], told["object"], told["amount_usd"]) == (key, "adjustment", "0.250000000")
    assert (told["note"], told) == ("invoice 2026-11", answers[1].json())
    assert Decimal(told["booked_usd"]) == before + Decimal("0.25")
    assert (less["amount_usd"], Decimal(less["booked_usd"])) == ("-0.050000000", before + Decimal("0.20"))
    assert spent(operator, tenant) == before + Decimal("0.20")
    assert Decimal(job_of(operator, tenant)["cost_usd"]) == before + Decimal("0.20")


@pytest.mark.parametrize("amount", ["0", "", "much", "1e30", "0.0000000001", "0.0000000015", "NaN", 1, None])
def test_an_amount_that_no_invoice_has_is_refused(operator: httpx2.Client, amount: object) -> None:
    answer = adjust(operator, {"id": "att_1"}, amount)

    assert (answer.status_code, error_of(answer)["param"]) == (400, "amount_usd")


@pytest.mark.parametrize(("changes", "param"), [({"note": ""}, "note"), ({"colour": "red"}, "colour")])
def test_a_body_that_says_no_reason_or_too_much_is_refused(
    operator: httpx2.Client, changes: dict[str, object], param: str
) -> None:
    answer = adjust(operator, {"id": "att_1"}, "1", **changes)

    assert (answer.status_code, error_of(answer)["param"]) == (400, param)


def test_a_key_names_one_adjustment_and_must_be_there(charge: JsonObject, operator: httpx2.Client) -> None:
    key, body = uuid.uuid4().hex, {"attempt_id": charge["id"], "amount_usd": "1", "note": "n"}
    adjust(operator, charge, "0.25", key=key)

    other, none = adjust(operator, charge, "0.26", key=key), operator.post("/budgets/adjust", json=body)

    assert error_of(other)["code"] == "idempotency_conflict"
    assert (none.status_code, error_of(none)["param"]) == (400, "idempotency_key")


def test_more_than_was_booked_cannot_be_taken_away(charge: JsonObject, operator: httpx2.Client, tenant: str) -> None:
    answer = adjust(operator, charge, "-1")

    assert answer.status_code == 400
    assert f"{charge['cost_usd']} USD are booked" in error_of(answer)["message"]
    assert spent(operator, tenant) == Decimal(charge["cost_usd"])


def test_what_is_not_resolved_or_not_there_cannot_be_adjusted(
    caller: httpx2.Client, operator: httpx2.Client, tenant: str
) -> None:
    said = [{"role": "user", "content": f"[[scenario:reset_after]] {uuid.uuid4().hex}"}]
    caller.post("/v1/chat/completions", json={"model": "small", "messages": said, "deadline_seconds": 0.3})
    rows = eventually(
        lambda: operator.get("/budgets/suspense", params={"limit": 100}).json()["data"],
        lambda rows: any(row["tenant_id"] == tenant for row in rows),
    )
    unresolved = next(row for row in rows if row["tenant_id"] == tenant)

    early, unknown = adjust(operator, unresolved, "1"), adjust(operator, {"id": "att_1"}, "1")

    assert (early.status_code, unknown.status_code) == (400, 404)
    assert "/budgets/suspense" in error_of(early)["message"]


def penstock(premises: Premises, *words: str, code: int = ExitCode.OK) -> "subprocess.CompletedProcess[str]":
    ended = subprocess.run(
        [sys.executable, "-m", "cli", "budgets", "adjust", *words],
        cwd=CHECKOUT,
        env=os.environ | {"PENSTOCK_URL": premises.api.url, "PENSTOCK_API_KEY": ADMIN},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    return ended


def test_the_command_adjusts_once_and_says_what_is_wrong(charge: JsonObject, premises: Premises) -> None:
    booked = Decimal(charge["cost_usd"]) + Decimal("0.5")
    words = (charge["id"], "--note", "invoice 2026-11", "--key")
    key, other = uuid.uuid4().hex, uuid.uuid4().hex

    said = [penstock(premises, *words, key, "--amount", "0.5").stderr for _ in range(2)]
    away = penstock(premises, *words, other, "--amount", "-0.5", "--json").stdout
    otherwise = penstock(premises, *words, key, "--amount", "0.6", code=ExitCode.FAILURE).stderr
    unnamed = penstock(premises, charge["id"], "--amount", "1", "--note", "n", code=ExitCode.USAGE).stderr

    assert said == [f"{charge['id']} is adjusted by 0.500000000 USD to {booked:.9f} USD\n"] * 2
    assert '"amount_usd": "-0.500000000"' in away
    assert "used before with another adjustment" in otherwise
    assert "--key" in unnamed
