"""Who is let in, and what those are told who are not."""

import httpx2
import pytest

from tests.support.web_process import MESSAGES, a_batch_file, error_of

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
    ("POST", "/budgets/adjust"),
    ("GET", "/limits"),
    ("POST", "/limits/open"),
    ("GET", "/tenants"),
    ("POST", "/tenants/acme"),
    ("GET", "/keys"),
    ("POST", "/keys"),
    ("DELETE", "/keys/key_1"),
)
FOR_OPERATORS = tuple(route for route in GUARDED if route[1].split("/")[1] in {"budgets", "limits", "keys", "tenants"})


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_nothing_is_told_without_a_key_whatever_the_body_says(stranger: httpx2.Client, method: str, path: str) -> None:
    answer = stranger.request(method, path, content=b"{")

    assert answer.status_code == 401
    assert error_of(answer)["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Bearer pk_wrong", "Bearer", "Basic YTpi", "pk_admin", f"Bearer {'x' * 600}"])
def test_a_wrong_key_is_as_good_as_none(stranger: httpx2.Client, header: str) -> None:
    assert stranger.get("/jobs", headers={"authorization": header}).status_code == 401


@pytest.mark.parametrize(("method", "path"), FOR_OPERATORS)
def test_what_is_for_operators_is_forbidden_to_others(caller: httpx2.Client, method: str, path: str) -> None:
    answer = caller.request(method, path, json={})

    assert answer.status_code == 403
    assert error_of(answer)["code"] == "forbidden"


def test_only_an_operator_may_act_for_another_tenant(
    operator: httpx2.Client, caller: httpx2.Client, tenant: str
) -> None:
    other, own = {"x-penstock-tenant": "default"}, {"x-penstock-tenant": tenant}
    answers = [operator.get("/jobs", headers=other), caller.get("/jobs", headers=other)]

    assert [one.status_code for one in (*answers, caller.get("/jobs", headers=own))] == [200, 403, 200]


def test_what_belongs_to_another_tenant_does_not_exist(operator: httpx2.Client, caller: httpx2.Client) -> None:
    job = operator.post("/jobs", json={"model": "small", "messages": MESSAGES}).json()["id"]
    file = a_batch_file(operator, b"x")
    paths = (f"/jobs/{job}", f"/v1/files/{file}", f"/v1/files/{file}/content", "/v1/batches/batch_1")

    answers = [*(caller.get(path) for path in paths), caller.post(f"/jobs/{job}/cancel")]

    for answer in answers:
        assert answer.status_code == 404
        assert error_of(answer)["code"] == "not_found"


@pytest.mark.parametrize("path", ["/nowhere", "/v1/nothing", "/jobs/a/b/c"])
def test_an_unknown_path_is_told_in_the_same_shape(caller: httpx2.Client, path: str) -> None:
    answer = caller.get(path)

    assert answer.status_code == 404
    assert error_of(answer)["code"] == "unknown_url"


def test_a_wrong_method_is_told_in_the_same_shape(caller: httpx2.Client) -> None:
    answer = caller.delete("/v1/models")

    assert answer.status_code == 405
    assert error_of(answer)["code"] == "method_not_supported"
