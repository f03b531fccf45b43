"""Who is let in, and what those are told who are not."""

import pytest

from api.auth import BELIEVED_SECONDS, Authenticator
from schemas.errors import PostgresUnavailable, Unauthenticated
from schemas.ids import KeyId, TenantId
from tests.support.door import ADMIN, client_of, error_of
from tests.support.house import FakeHouse, FakeKeys

GUARDED = (
    ("GET", "/v1/files"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files/file-1"),
    ("GET", "/v1/files/file-1/content"),
    ("DELETE", "/v1/files/file-1"),
    ("GET", "/v1/batches"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/batches/batch_1"),
    ("POST", "/v1/batches/batch_1/cancel"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/small"),
    ("GET", "/jobs"),
    ("POST", "/jobs"),
    ("GET", "/jobs/summary?batch_id=b"),
    ("GET", "/jobs/job_1"),
    ("POST", "/jobs/job_1/cancel"),
    ("GET", "/dead-letters"),
    ("GET", "/dead-letters/groups"),
    ("GET", "/dead-letters/job_1"),
    ("POST", "/dead-letters/replay"),
    ("POST", "/dead-letters/discard"),
    ("GET", "/budgets"),
    ("GET", "/limits"),
    ("GET", "/keys"),
    ("POST", "/keys"),
    ("DELETE", "/keys/key_1"),
)
FOR_OPERATORS = tuple(route for route in GUARDED if route[1].split("/")[1] in {"budgets", "limits", "keys"})


async def with_key_of(house: FakeHouse, tenant: str, *scopes: str) -> str:
    secret = f"pk_{tenant}"
    await house.keys.create(KeyId(f"key_{tenant}"), secret, TenantId(tenant), scopes or ("submit",))
    return secret


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_nothing_is_told_without_a_key_whatever_the_body_says(method: str, path: str) -> None:
    async with client_of(FakeHouse(), key=None) as client:
        answer = await client.request(method, path, content=b"{")

    assert answer.status_code == 401
    assert error_of(answer)["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Bearer pk_wrong", "Bearer ", "Basic YTpi", "pk_admin", f"Bearer {'x' * 600}"])
async def test_a_wrong_key_is_as_good_as_none(header: str) -> None:
    async with client_of(FakeHouse(), key=None) as client:
        answer = await client.get("/jobs", headers={"authorization": header})

    assert answer.status_code == 401


@pytest.mark.parametrize(("method", "path"), FOR_OPERATORS)
async def test_what_is_for_operators_is_forbidden_to_others(method: str, path: str) -> None:
    house = FakeHouse()
    async with client_of(house, key=await with_key_of(house, "acme")) as client:
        answer = await client.request(method, path, json={})

    assert answer.status_code == 403
    assert error_of(answer)["code"] == "forbidden"


async def test_a_revoked_key_is_refused_at_once_where_it_was_revoked() -> None:
    house = FakeHouse()
    secret = await with_key_of(house, "acme")
    async with client_of(house) as client:
        theirs = {"authorization": f"Bearer {secret}"}
        before = await client.get("/jobs", headers=theirs)
        await client.delete("/keys/key_acme")
        after = await client.get("/jobs", headers=theirs)

    assert (before.status_code, after.status_code) == (200, 401)


async def test_another_process_believes_a_revoked_key_for_a_second_at_most() -> None:
    keys, now = FakeKeys(), [100.0]
    await keys.create(KeyId("key_1"), "pk_1", TenantId("acme"), ["submit"])
    authenticator = Authenticator(keys, ADMIN, clock=lambda: now[0])
    assert (await authenticator.caller("pk_1")).tenant_id == "acme"

    await keys.revoke(KeyId("key_1"))
    assert (await authenticator.caller("pk_1")).tenant_id == "acme"
    now[0] += BELIEVED_SECONDS
    with pytest.raises(Unauthenticated):
        await authenticator.caller("pk_1")


async def test_a_database_that_is_away_is_no_wrong_key() -> None:
    house = FakeHouse()
    house.keys.trouble = PostgresUnavailable()
    async with client_of(house, key="pk_some") as client:
        answer = await client.get("/jobs")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert error_of(answer)["code"] == "unavailable"


async def test_only_an_operator_may_act_for_another_tenant() -> None:
    house = FakeHouse()
    secret = await with_key_of(house, "acme")
    async with client_of(house) as client:
        operator = await client.get("/jobs", headers={"x-penstock-tenant": "other"})
        nobody = {"authorization": f"Bearer {secret}", "x-penstock-tenant": "other"}
        tenant = await client.get("/jobs", headers=nobody)
        own = await client.get("/jobs", headers=nobody | {"x-penstock-tenant": "acme"})

    assert [one.status_code for one in (operator, tenant, own)] == [200, 403, 200]


async def test_what_belongs_to_another_tenant_does_not_exist() -> None:
    house = FakeHouse()
    secret = await with_key_of(house, "acme")
    async with client_of(house) as client:
        job = (await client.post("/jobs", json={"model": "small", "messages": [{"role": "user"}]})).json()["id"]
        file = (await client.post("/v1/files", data={"purpose": "batch"}, files={"file": b"x"})).json()["id"]
        theirs = {"authorization": f"Bearer {secret}"}
        paths = (f"/jobs/{job}", f"/v1/files/{file}", f"/v1/files/{file}/content", "/v1/batches/batch_1")
        answers = [await client.get(path, headers=theirs) for path in paths]
        cancelled = await client.post(f"/jobs/{job}/cancel", headers=theirs)

    for answer in [*answers, cancelled]:
        assert answer.status_code == 404
        assert error_of(answer)["code"] == "not_found"


@pytest.mark.parametrize("path", ["/nowhere", "/v1/nothing", "/jobs/a/b/c"])
async def test_an_unknown_path_is_told_in_the_same_shape(path: str) -> None:
    async with client_of(FakeHouse()) as client:
        answer = await client.get(path)

    assert answer.status_code == 404
    assert error_of(answer)["code"] == "unknown_url"


async def test_a_wrong_method_is_told_in_the_same_shape() -> None:
    async with client_of(FakeHouse()) as client:
        answer = await client.delete("/v1/models")

    assert answer.status_code == 405
    assert error_of(answer)["code"] == "method_not_supported"
