"""The doors of money: quotes for everybody, budgets for operators, gauges for scrapers."""

import pytest

from schemas.ids import KeyId, TenantId
from tests.support.door import MESSAGES, client_of, error_of
from tests.support.house import FakeHouse

CHAT = {"model": "small", "messages": MESSAGES}


async def test_a_single_request_is_quoted_and_not_sent() -> None:
    house = FakeHouse()

    async with client_of(house) as client:
        answer = await client.post("/quote", json=CHAT)

    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["object"], told["requests"], told["seconds"]) == ("quote", 1, 90.0)
    assert (told["likely_usd"], told["worst_case_usd"]) == ("0.250000000", "1.000000000")
    assert house.intake.jobs == {}


async def test_any_caller_has_his_own_files_quoted_and_nobody_elses() -> None:
    house = FakeHouse()
    await house.keys.create(KeyId("key_1"), "pk_caller", TenantId("default"), ["submit"])
    await house.keys.create(KeyId("key_2"), "pk_other", TenantId("other"), ["submit"])

    async with client_of(house, "pk_caller") as client:
        file = (await client.post("/v1/files", data={"purpose": "batch"}, files={"file": b"{}"})).json()["id"]
        own = await client.post("/quote", json={"input_file_id": file})
        other = await client.post("/quote", json={"input_file_id": file}, headers={"authorization": "Bearer pk_other"})

    assert own.status_code == 200
    assert house.quotes.asked == [file]
    assert other.status_code == 404


@pytest.mark.parametrize("body", [{"model": "small"}, {"input_file_id": 7}, {"input_file_id": "a", "model": "small"}])
async def test_what_is_neither_a_file_nor_a_request_is_refused(body: dict[str, object]) -> None:
    async with client_of(FakeHouse()) as client:
        assert error_of(await client.post("/quote", json=body))["type"] == "invalid_request_error"


async def test_budgets_are_set_listed_and_reported_by_operators_alone() -> None:
    house = FakeHouse()
    await house.keys.create(KeyId("key_1"), "pk_caller", TenantId("default"), ["submit"])
    asks = (("POST", "/budgets"), ("GET", "/budgets"), ("GET", "/budgets/report?by=tenant,day&days=7"))
    given = {"scope": "tenant:acme", "window": "hour", "limit_usd": "5", "on_exhausted": ["park"]}

    async with client_of(house) as client:
        changed, listed, report = [await client.request(*ask, json=given) for ask in asks]
        caller = {"authorization": "Bearer pk_caller"}
        refused = {(await client.request(*ask, json=given, headers=caller)).status_code for ask in asks}
        unknown = await client.post("/budgets", json=given | {"colour": "red"})

    assert house.treasury.given == [given | {"timezone": "UTC"}]
    assert changed.json()["limit_usd"] == "5"
    assert [row["scope"] for row in listed.json()["data"]] == ["global"]
    assert report.json()["data"] == [{"tenant": "x", "day": "x", "entries": 7, "spent_usd": "0.25", "wasted_usd": "0"}]
    assert refused == {403}
    assert error_of(unknown)["param"] == "colour"


async def test_a_jobs_story_says_what_budgets_made_of_it() -> None:
    async with client_of(FakeHouse()) as client:
        job = (await client.post("/jobs", json=CHAT)).json()["id"]
        story = (await client.get(f"/jobs/{job}")).json()

    assert story["budget_steps"] == []


async def test_history_is_priced_again_a_round_at_a_time_from_where_the_last_ended() -> None:
    house = FakeHouse()
    given = {"since": "2026-01-01T00:00:00+00:00", "dry_run": True}

    async with client_of(house) as client:
        first = (await client.post("/budgets/reprice", json=given)).json()
        last = (await client.post("/budgets/reprice", json=given | {"after": first["after"]})).json()
        wrong = [await client.post("/budgets/reprice", json={"since": since}) for since in ("soon", "2026-01-01", None)]

    assert (first["checked"], first["adjusted_usd"], first["after"]) == (2, "0.000000001", "att_2")
    assert (last["checked"], last["after"]) == (0, None)
    assert house.repricing.asked == ["", "att_2"]
    assert {error_of(each)["param"] for each in wrong} == {"since"}


async def test_a_batch_is_created_under_its_terms_and_let_go_on() -> None:
    house = FakeHouse()
    metadata = {"max_cost_usd": "1.5", "max_error_rate": "0.1", "canary": "20"}

    async with client_of(house) as client:
        file = (await client.post("/v1/files", data={"purpose": "batch"}, files={"file": b"{}"})).json()["id"]
        body = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = (await client.post("/v1/batches", json=body | {"metadata": metadata})).json()
        plain = (await client.post("/v1/batches", json=body)).json()
        bad = await client.post("/v1/batches", json=body | {"metadata": {"canary": "0"}})
        goes_on = (await client.post(f"/v1/batches/{batch['id']}/proceed")).json()
        again = await client.post(f"/v1/batches/{batch['id']}/proceed")
        nothing = await client.post(f"/v1/batches/{plain['id']}/proceed")

    assert batch["stop_loss"]["max_cost_usd"] == "1.500000000"
    assert (batch["stop_loss"]["phase"], goes_on["stop_loss"]["phase"]) == ("canary", "releasing")
    assert "stop_loss" not in plain
    assert error_of(bad)["param"] == "metadata.canary"
    assert again.status_code == 200
    assert error_of(nothing)["param"] == "id"


async def test_metrics_show_each_budget_and_each_threshold() -> None:
    async with client_of(FakeHouse()) as client:
        text = (await client.get("/metrics")).text

    assert 'penstock_budget_usd{amount="limit",scope="global",window="2026-01-01"} 1.0' in text
    assert 'penstock_budget_usd{amount="settled",scope="global",window="2026-01-01"} 0.25' in text
    assert 'penstock_budget_usd{amount="reserved",scope="global",window="2026-01-01"} 0.0' in text
    assert 'penstock_budget_thresholds_passed_total{percent="80",scope="global"} 2.0' in text
