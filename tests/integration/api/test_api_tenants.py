"""What a tenant may have, at the real door: told by name beyond it, and without harm to anybody else."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import orjson
import pytest

from schemas.jsons import JsonObject
from tests.integration.api.conftest import ADMIN, Premises
from tests.support.own_process import WebProcess
from tests.support.web_process import MESSAGES, a_batch_file, error_of, eventually

JOB = {"model": "small", "messages": MESSAGES}
HANGING = {"model": "small", "messages": [{"role": "user", "content": "[[scenario:hang]]"}]}
FEW_SLOTS = {"PENSTOCK_SLOTS": "16", "PENSTOCK_RESERVED_CRITICAL_SLOTS": "1", "PENSTOCK_SLICE_SIZE": "1"}
PLACES = 20


def row_of(operator: httpx2.Client, tenant: str) -> JsonObject:
    rows = operator.get("/tenants").json()["data"]
    return next((row for row in rows if row["id"] == tenant), {"limits": {}})


@contextmanager
def limited(operator: httpx2.Client, tenant: str, **limits: object) -> Iterator[None]:
    """Limits that are in force in the door, and stand until other ones are set."""
    answer = operator.post(f"/tenants/{tenant}", json=limits)
    assert answer.status_code == 200, answer.text
    eventually(lambda: row_of(operator, tenant), lambda row: limits.items() <= row["limits"].items())
    yield


def test_open_jobs_beyond_the_quota_are_refused_by_name_with_their_number(
    operator: httpx2.Client, caller: httpx2.Client, tenant: str
) -> None:
    with limited(operator, tenant, open_jobs=2):
        taken = [caller.post("/jobs", json=JOB) for _ in range(3)]

    assert [answer.status_code for answer in taken] == [200, 200, 429]
    error = error_of(taken[-1])
    assert (error["code"], error["param"]) == ("tenant_quota", "open_jobs")
    assert error["message"] == "The quota open_jobs of this tenant is 2, and 2 are in use."
    assert int(taken[-1].headers["retry-after"]) > 0
    assert row_of(operator, tenant)["used"]["open_jobs"] == 2
    assert operator.post("/jobs", json=JOB).status_code == 200


def test_a_file_beyond_the_bytes_of_its_tenant_is_refused_and_leaves_none(
    operator: httpx2.Client, caller: httpx2.Client, tenant: str
) -> None:
    with limited(operator, tenant, bytes_stored=1_000_000):
        large = {"file": ("in.jsonl", b"x" * 1_500_000)}
        answer = caller.post("/v1/files", data={"purpose": "batch"}, files=large)

        assert answer.status_code == 413
        assert error_of(answer)["param"] == "bytes_stored"
        assert answer.headers["x-should-retry"] == "false"
        assert caller.get("/v1/files").json()["data"] == []
        assert a_batch_file(caller)


def test_requests_beyond_the_share_get_a_429_and_others_are_served(
    operator: httpx2.Client, caller: httpx2.Client, tenant: str
) -> None:
    with limited(operator, tenant, requests_per_minute=1):
        answers = [caller.post("/v1/chat/completions", json=JOB) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 429]
    assert error_of(answers[1])["code"] == "tenant_share"
    assert operator.post("/v1/chat/completions", json=JOB).status_code == 200


def test_a_call_larger_than_the_tokens_of_its_tenant_is_refused_for_good(
    operator: httpx2.Client, caller: httpx2.Client, tenant: str
) -> None:
    with limited(operator, tenant, tokens_per_minute=1_000):
        answer = caller.post("/v1/chat/completions", json=JOB | {"max_completion_tokens": 1_000})

    assert answer.status_code == 400
    assert "tokens_per_minute of its tenant" in error_of(answer)["message"]


def test_a_lane_that_the_tenant_may_not_use_is_forbidden_by_name(
    operator: httpx2.Client, caller: httpx2.Client, tenant: str
) -> None:
    with limited(operator, tenant, lanes=["normal", "low"]):
        answer = caller.post("/jobs", json=JOB | {"lane": "critical"})
        unnamed = caller.post("/v1/chat/completions", json=JOB)

    assert (answer.status_code, error_of(answer)["code"]) == (403, "lane_forbidden")
    assert "lanes that it may use: normal, low" in error_of(answer)["message"]
    assert unnamed.status_code == 200
    assert caller.get("/jobs").json()["data"][0]["lane"] == "normal"


def test_a_key_may_use_only_the_lanes_of_its_scopes_in_batch_lines_too(
    premises: Premises, operator: httpx2.Client, tenant: str
) -> None:
    made = operator.post("/keys", json={"tenant_id": tenant, "scopes": ["submit", "lane:low"]}).json()
    line = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"small","lane":"high",'
    terms = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    with premises.client(made["key"]) as caller:
        assert caller.post("/jobs", json=JOB | {"lane": "high"}).status_code == 403
        assert caller.post("/jobs", json=JOB).json()["lane"] == "low"
        assert caller.post("/replays", json={"filter": {}, "patch": {"lane": "high"}}).status_code == 403
        letter = b'{"id":"job_x","lane":"critical","request":' + orjson.dumps(JOB) + b"}"
        assert error_of(caller.post("/dead-letters/import", content=letter))["param"] == "lane"
        file_id = a_batch_file(caller, line + b'"messages":[{"role":"user","content":"hi"}]}}')
        refused = caller.post("/v1/batches", json=terms | {"input_file_id": file_id, "lane": "high"})
        batch = caller.post("/v1/batches", json=terms | {"input_file_id": file_id}).json()
        read = eventually(
            lambda: caller.get(f"/v1/batches/{batch['id']}").json(), lambda seen: seen["status"] != "validating"
        )

    assert refused.status_code == 403
    assert (read["status"], read["errors"]["data"][0]["code"]) == ("failed", "lane_forbidden")


def test_connections_beyond_the_share_are_refused_until_one_ends(
    premises: Premises, operator: httpx2.Client, caller: httpx2.Client, tenant: str, key: str
) -> None:
    with (
        limited(operator, tenant, connections=1),
        premises.client(key) as other,
        other.stream("POST", "/v1/chat/completions", json=JOB | {"stream": True}) as streamed,
    ):
        crowded = caller.get("/jobs")
        assert (crowded.status_code, error_of(crowded)["param"]) == (429, "connections")
        assert operator.get("/jobs", headers={"x-penstock-tenant": tenant}).status_code == 200
        streamed.read()

    assert eventually(lambda: caller.get("/jobs").status_code, lambda status: status == 200) == 200


@pytest.mark.parametrize(
    ("name", "limits", "param"),
    [("acme", {"open_jobs": 0}, "open_jobs"), ("acme", {"calls": 1}, "calls"), ("*", {"lanes": ["x"]}, "lanes")],
)
def test_limits_that_make_no_sense_are_refused_by_name(
    operator: httpx2.Client, name: str, limits: JsonObject, param: str
) -> None:
    answer = operator.post(f"/tenants/{name}", json=limits)

    assert (answer.status_code, error_of(answer)["param"]) == (400, param)


def test_a_single_call_is_served_beside_a_tenant_that_fills_the_process(
    premises: Premises, operator: httpx2.Client, tenant: str, key: str
) -> None:
    with WebProcess(dict(premises.env) | FEW_SLOTS) as api, ThreadPoolExecutor(PLACES + 10) as crowd:
        api.until("/readyz", 200)
        leaving = threading.Event()

        def hang() -> None:
            headers, body = {"authorization": f"Bearer {key}"}, HANGING | {"stream": True}
            url = f"{api.url}/v1/chat/completions"
            with httpx2.stream("POST", url, json=body, headers=headers, timeout=60):
                leaving.wait()

        def single() -> float:
            began = time.monotonic()
            headers = {"authorization": f"Bearer {ADMIN}"}
            answer = httpx2.post(f"{api.url}/v1/chat/completions", json=JOB, headers=headers, timeout=60)
            assert answer.status_code == 200, answer.text
            return time.monotonic() - began

        alone = sorted(single() for _ in range(20))
        for _ in range(PLACES + 10):
            crowd.submit(hang)
        eventually(premises.provider.meter, lambda meter: meter["concurrent"] >= PLACES - 2)
        crowded = sorted(single() for _ in range(20))
        leaving.set()
        api.stop()

    figures = f"p50 alone {alone[9]:.3f} s, beside {PLACES + 10} slow ones {crowded[9]:.3f} s"
    print(figures)  # noqa: T201 - the figure
    assert crowded[-1] < 5.0
