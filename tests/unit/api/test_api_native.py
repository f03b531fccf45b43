"""Our own resources: the fields that the command line reads, pages, and what is refused."""

import pytest

from cli import jobs as jobs_cli
from cli import operator as operator_cli
from schemas.errors import PostgresUnavailable, RedisUnavailable
from schemas.jsons import JsonObject
from schemas.states import JobState
from tests.support.door import MESSAGES, client_of, error_of
from tests.support.house import FakeHouse

BODY: JsonObject = {"model": "small", "messages": MESSAGES}


async def test_a_job_is_handed_in_and_its_whole_story_told() -> None:
    async with client_of(FakeHouse()) as client:
        job = (await client.post("/jobs", json=BODY)).json()
        story = (await client.get(f"/jobs/{job['id']}")).json()

    assert (job["state"], job["lane"], job["repeated"]) == ("queued", "normal", False)
    assert set(jobs_cli.COLUMNS) <= set(story)
    assert (story["cost_usd"], story["request"]) == ("0.000001500", BODY)
    assert (story["attempts"][0]["outcome"], story["attempts"][0]["cost_usd"]) == ("valid", "0.000001500")


async def test_the_same_key_names_the_same_job_and_another_body_under_it_is_refused() -> None:
    async with client_of(FakeHouse()) as client:
        first = await client.post("/jobs", json=BODY, headers={"idempotency-key": "k"})
        again = await client.post("/jobs", json=BODY, headers={"idempotency-key": "k"})
        other = await client.post("/jobs", json=BODY | {"model": "large"}, headers={"idempotency-key": "k"})

    assert (again.json()["id"], again.json()["repeated"]) == (first.json()["id"], True)
    assert (other.status_code, other.headers["x-should-retry"]) == (409, "false")
    assert error_of(other)["code"] == "idempotency_conflict"


async def test_a_listing_is_read_page_by_page() -> None:
    async with client_of(FakeHouse()) as client:
        made = [(await client.post("/jobs", json=BODY)).json()["id"] for _ in range(3)]
        first = (await client.get("/jobs", params={"limit": 2})).json()
        second = (await client.get("/jobs", params={"limit": 2, "after": first["last_id"]})).json()

    assert [row["id"] for row in first["data"] + second["data"]] == made[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert set(jobs_cli.COLUMNS) <= set(first["data"][0])


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "state=nowhere", "lane=express"],
)
async def test_a_wrong_query_is_named(query: str) -> None:
    async with client_of(FakeHouse()) as client:
        answer = await client.get(f"/jobs?{query}")

    assert answer.status_code == 400
    assert error_of(answer)["param"] == query.partition("=")[0]


@pytest.mark.parametrize("path", ["/jobs/%00", "/jobs/a%20b", f"/jobs/{'x' * 200}", "/jobs?after=%00"])
async def test_an_id_that_can_be_none_is_not_found(path: str) -> None:
    async with client_of(FakeHouse()) as client:
        answer = await client.get(path)

    assert answer.status_code == 404
    assert error_of(answer)["code"] == "not_found"


async def test_a_job_is_cancelled_once_and_asked_twice() -> None:
    house = FakeHouse()
    house.reads.state = JobState.QUEUED
    async with client_of(house) as client:
        job = (await client.post("/jobs", json=BODY)).json()["id"]
        answers = [await client.post(f"/jobs/{job}/cancel") for _ in range(2)]

    assert [(one.status_code, one.json()["state"]) for one in answers] == [(200, "cancelled")] * 2


async def test_the_summary_of_a_batch_has_what_the_demo_reads() -> None:
    async with client_of(FakeHouse()) as client:
        file = (await client.post("/v1/files", data={"purpose": "batch"}, files={"file": b"x"})).json()["id"]
        wanted = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = (await client.post("/v1/batches", json=wanted)).json()["id"]
        told = (await client.get("/jobs/summary", params={"batch_id": batch})).json()
        unknown = await client.get("/jobs/summary", params={"batch_id": "batch_9"})

    assert told["lanes"] == {"low": 2}
    assert (told["attempts"], told["recoveries"], told["dead"]) == ({"valid": 3}, {"fenced": 1}, {"refused": 1})
    assert told["reprompted"] == 1
    assert unknown.status_code == 404


async def test_budgets_and_limits_have_what_the_command_line_shows() -> None:
    async with client_of(FakeHouse()) as client:
        budgets, limits = (await client.get("/budgets")).json(), (await client.get("/limits")).json()

    assert budgets["data"][0]["settled_usd"] == "0.250000000"
    assert limits["data"][0]["used"] == 6
    assert not budgets["has_more"]


async def test_limits_without_redis_are_a_503() -> None:
    house = FakeHouse()
    house.watch.trouble = RedisUnavailable()
    async with client_of(house) as client:
        answer = await client.get("/limits")

    assert answer.status_code == 503
    assert "Redis" in error_of(answer)["message"]


async def test_jobs_without_postgres_are_a_503() -> None:
    house = FakeHouse()
    house.reads.trouble = PostgresUnavailable()
    async with client_of(house) as client:
        answer = await client.get("/jobs")

    assert answer.status_code == 503
    assert "Postgres" in error_of(answer)["message"]


async def test_a_key_is_shown_once_and_works_until_it_is_revoked() -> None:
    async with client_of(FakeHouse()) as client:
        made = (await client.post("/keys", json={"tenant_id": "acme", "scopes": ["submit"]})).json()
        listed = await client.get("/keys")
        theirs = {"authorization": f"Bearer {made['key']}"}
        before = await client.get("/jobs", headers=theirs)
        revoked = await client.delete(f"/keys/{made['id']}")
        again = await client.delete(f"/keys/{made['id']}")

    assert made["key"].startswith("pk_")
    assert set(operator_cli.KEY_COLUMNS) <= set(made)
    assert made["key"] not in listed.text
    assert (before.status_code, revoked.json()["revoked"], again.status_code) == (200, True, 404)


@pytest.mark.parametrize(
    "body", [{"tenant_id": "a b"}, {"tenant_id": ""}, {"scopes": ["root"]}, {"scopes": []}, {"tenant": "acme"}]
)
async def test_a_wrong_key_request_is_refused(body: JsonObject) -> None:
    async with client_of(FakeHouse()) as client:
        answer = await client.post("/keys", json=body)

    assert answer.status_code == 400
    assert error_of(answer)["param"]
