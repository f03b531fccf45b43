"""Our own resources: the fields that the command line reads, pages, and what is refused."""

import httpx2
import pytest

from cli.commands import jobs as jobs_cli
from cli.commands import keys as keys_cli
from cli.commands import limits as limits_cli
from schemas.jsons import JsonObject
from tests.support.web_process import MESSAGES, error_of

BODY: JsonObject = {"model": "small", "messages": MESSAGES}


def test_a_job_is_handed_in(caller: httpx2.Client) -> None:
    job = caller.post("/jobs", json=BODY).json()

    assert (job["state"], job["lane"], job["repeated"]) == ("queued", "normal", False)


def test_what_of_a_contract_is_not_checked_here_is_named(caller: httpx2.Client) -> None:
    contract = {"schema": {"properties": {"code": {"pattern": "^(?=A)[A-Z]+$"}}}}

    for path in ("/jobs", "/quote"):
        plain = caller.post(path, json=BODY).json()
        told = caller.post(path, json=BODY | {"output_contract": contract}).json()
        assert plain["unchecked"] == []
        assert told["unchecked"] == ["properties/code/pattern: the pattern '^(?=A)[A-Z]+$'"]


@pytest.mark.parametrize(
    "schema", [{"$schema": {}}, {"pattern": "(" * 3_000}, {"$ref": "#/$defs/x"}, {"allOf": [{}] * 30_000}]
)
def test_a_schema_that_cannot_be_used_is_a_fault_of_the_request(caller: httpx2.Client, schema: JsonObject) -> None:
    answer = caller.post("/jobs", json=BODY | {"output_contract": {"schema": schema}})

    assert (answer.status_code, error_of(answer)["param"]) == (400, "output_contract")


def test_the_whole_story_of_a_job_is_told(caller: httpx2.Client) -> None:
    caller.post("/v1/chat/completions", json=BODY)
    [job] = caller.get("/jobs").json()["data"]

    story = caller.get(f"/jobs/{job['id']}").json()

    [attempt] = story["attempts"]
    assert set(jobs_cli.COLUMNS) <= set(story)
    assert (story["state"], story["request"], story["budget_steps"]) == ("completed", BODY, [])
    assert attempt["outcome"] == "valid"
    assert attempt["cost_usd"] == story["cost_usd"] != "0.000000000"


def test_the_same_key_gives_the_same_job_and_refuses_another_body(caller: httpx2.Client) -> None:
    first = caller.post("/jobs", json=BODY, headers={"idempotency-key": "k"})
    again = caller.post("/jobs", json=BODY, headers={"idempotency-key": "k"})
    other = caller.post("/jobs", json=BODY | {"model": "dear"}, headers={"idempotency-key": "k"})

    assert (again.json()["id"], again.json()["repeated"]) == (first.json()["id"], True)
    assert (other.status_code, other.headers["x-should-retry"]) == (409, "false")
    assert error_of(other)["code"] == "idempotency_conflict"


def test_a_listing_is_read_page_by_page(caller: httpx2.Client) -> None:
    made = [caller.post("/jobs", json=BODY).json()["id"] for _ in range(3)]
    first = caller.get("/jobs", params={"limit": 2}).json()
    second = caller.get("/jobs", params={"limit": 2, "after": first["last_id"]}).json()

    assert [row["id"] for row in first["data"] + second["data"]] == made[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert set(jobs_cli.COLUMNS) <= set(first["data"][0])


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "state=nowhere", "lane=express"])
def test_a_wrong_query_is_named(caller: httpx2.Client, query: str) -> None:
    answer = caller.get(f"/jobs?{query}")

    assert answer.status_code == 400
    assert error_of(answer)["param"] == query.partition("=")[0]


@pytest.mark.parametrize("path", ["/jobs/%00", "/jobs/a%20b", f"/jobs/{'x' * 200}", "/jobs?after=%00"])
def test_an_id_that_can_be_none_is_not_found(caller: httpx2.Client, path: str) -> None:
    answer = caller.get(path)

    assert answer.status_code == 404
    assert error_of(answer)["code"] == "not_found"


def test_a_job_is_cancelled_once_and_asked_twice(caller: httpx2.Client) -> None:
    job = caller.post("/jobs", json=BODY).json()["id"]
    answers = [caller.post(f"/jobs/{job}/cancel") for _ in range(2)]

    assert [(one.status_code, one.json()["state"]) for one in answers] == [(200, "cancelled")] * 2


def test_limits_have_what_the_command_line_shows(operator: httpx2.Client) -> None:
    limits = operator.get("/limits").json()

    assert {row["configured"] for row in limits["data"] if row["limit"] == "requests_per_minute"} >= {6_000}
    assert {"requests_per_minute", "in_flight"} <= {row["limit"] for row in limits["data"]}
    assert all(set(limits_cli.COLUMNS) <= set(row) for row in limits["data"])
    assert not limits["has_more"]


def test_a_key_is_shown_once_and_works_until_it_is_revoked(operator: httpx2.Client, tenant: str) -> None:
    made = operator.post("/keys", json={"tenant_id": tenant, "scopes": ["submit"]}).json()
    theirs = {"authorization": f"Bearer {made['key']}"}
    listed = operator.get("/keys")
    before = operator.get("/jobs", headers=theirs)
    revoked = operator.delete(f"/keys/{made['id']}")
    after = operator.get("/jobs", headers=theirs)
    again = operator.delete(f"/keys/{made['id']}")

    assert made["key"].startswith("pk_")
    assert set(keys_cli.COLUMNS) <= set(made)
    assert made["key"] not in listed.text
    assert (before.status_code, revoked.json()["revoked"]) == (200, True)
    assert (after.status_code, again.status_code) == (401, 404)


@pytest.mark.parametrize(
    "body", [{"tenant_id": "a b"}, {"tenant_id": ""}, {"scopes": ["root"]}, {"scopes": []}, {"tenant": "acme"}]
)
def test_a_wrong_key_request_is_refused(operator: httpx2.Client, body: JsonObject) -> None:
    answer = operator.post("/keys", json=body)

    assert answer.status_code == 400
    assert error_of(answer)["param"]
