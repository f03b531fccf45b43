"""Whatever JSON stands where something else was meant, on every route of the description: never a 500."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from typing import Any

import httpx2
import pytest

from schemas.storable import MAX_CALL_TOKENS
from tests.integration.api.conftest import Premises, new_key
from tests.support.web_process import MESSAGES, error_of

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    2**63,
    1e308,
    "",
    "1e-999999999",
    "9" * 400,
    "%s\u202e\U0001f9e8",
    "x" * 5_000,
    [],
    [None],
    [{}],
    {},
    {"a": []},
)
ODD_WORDS = ("", " ", "-1", "0", "1e9", "9" * 40, "true", "[]", "{}", "a,b", "../..", "%00", "x" * 3_000, "\u0661")
CHAT = {"model": "small", "messages": MESSAGES, "max_completion_tokens": 5}
BASES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/jobs": CHAT,
    "/quote": CHAT,
    "/v1/batches": {"input_file_id": "file_1", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
    "/budgets": {"scope": "user:nobody", "limit_usd": "1"},
    "/budgets/reprice": {"since": "2026-01-01T00:00:00Z", "dry_run": True},
    "/keys": {"tenant_id": "odd"},
    "/limits/open": {"account": "nobody"},
    "/controls/move": {"kind": "job", "name": "job_1", "lane": "low"},
    "/dead-letters/replay": {"ids": ["job_1"]},
    "/dead-letters/discard": {"ids": ["job_1"]},
    "/replays": {"ids": ["job_1"], "patch": {}},
}
CHAT_FIELDS = (
    *("service_tier", "n", "max_tokens", "temperature", "user", "metadata", "tools", "tool_choice", "response_format"),
    *(
        "stream",
        "stream_options",
        "prompt",
        "store",
        "logprobs",
        "reasoning_effort",
        "modalities",
        "prediction",
        "stop",
    ),
    *("seed", "functions", "parallel_tool_calls", "output_contract", "stream_validated", "audio", "verbosity"),
)
"""What our code, or a provider, reads beyond what the description names."""

AT_ONCE = 8
OPERATOR_ROUTES = ("/budgets", "/limits", "/keys", "/controls", "/metrics")


def fields_of(path: str, described: dict[str, Any]) -> set[str]:
    schema = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    more = CHAT_FIELDS if path == "/quote" else ()  # parsed as everywhere, planned, and not sent
    return {*schema.get("properties", {}), *more}


def bodies(path: str, described: dict[str, Any]) -> Iterator[Any]:
    base: dict[str, Any] = BASES.get(path, {"kind": "job", "name": "job_1"})
    yield from ODD
    for name in sorted(fields_of(path, described)):
        for odd in ODD:
            yield base | {name: odd}
    if base is CHAT:
        yield from (base | dict.fromkeys(CHAT_FIELDS[:4], odd) for odd in ODD)
        yield from (base | {name: odd} for name in CHAT_FIELDS for odd in ([], {"a": []}))
        yield from (base | {"messages": [odd]} for odd in ODD)
        yield from (base | {"messages": [{"role": "user", "content": odd}]} for odd in ODD)
        yield from (base | {"messages": [{"role": "user", "content": [{"type": odd, "text": odd}]}]} for odd in ODD)
        yield from (base | {"metadata": {"lane": odd, "prompt": odd, "max_cost_usd": odd}} for odd in ODD)
        yield from (base | {"response_format": {"type": "json_schema", "json_schema": odd}} for odd in ODD)
        yield from (base | {"tools": [{"type": "function", "function": odd}]} for odd in ODD)
    if path == "/replays":
        fields = ("body", "model", "lane", "parameters", "contract", "message", "deadline_seconds", "max_cost_usd")
        yield from (base | {"patch": {name: odd}} for name in fields for odd in ODD)
        yield from (base | {"patch": {"parameters": {name: odd}}} for name in CHAT_FIELDS[:4] for odd in ODD)
    if path == "/v1/batches":
        yield from (base | {"metadata": {"max_cost_usd": odd, "canary": odd, "lane": odd}} for odd in ODD_WORDS)


@pytest.fixture(scope="module")
def routes(premises: Premises) -> dict[str, dict[str, Any]]:
    with premises.client(None) as client:
        paths: dict[str, dict[str, Any]] = client.get("/openapi.json").json()["paths"]
    return paths


@pytest.fixture
def callers(premises: Premises, operator: httpx2.Client, tenant: str) -> Iterator[list[httpx2.Client]]:
    """Of several tenants, because the refused requests of one rest, one after the other."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(premises.client(new_key(operator, f"{tenant}-{number}"))) for number in range(AT_ONCE)
        ]


def who(path: str, caller: httpx2.Client, operator: httpx2.Client) -> httpx2.Client:
    """Operators where nobody else may, who name the tenant of the test; else that tenant itself."""
    return operator if path.startswith(OPERATOR_ROUTES) else caller


def ask(client: httpx2.Client, method: str, path: str, **words: Any) -> tuple[int, str]:  # noqa: ANN401 - httpx's
    """On a connection of its own: that of a fault is closed by the server."""
    alone = {"connection": "close"}
    with client.stream(method, path.replace("{", "").replace("}", ""), headers=alone, **words) as answer:
        return answer.status_code, answer.read().decode(errors="replace")[:300]


def test_no_json_in_a_body_is_a_fault_of_ours(
    routes: dict[str, dict[str, Any]], callers: list[httpx2.Client], operator: httpx2.Client
) -> None:
    requests = [
        (method, path, body)
        for path, methods in routes.items()
        for method in sorted({"post", "put", "patch"} & methods.keys())
        for body in bodies(path, methods[method])
    ]

    def answer_to(request: tuple[str, str, Any], caller: httpx2.Client) -> tuple[int, str]:
        method, path, body = request
        return ask(who(path, caller, operator), method, path, json=body)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = list(threads.map(answer_to, requests, cycle(callers)))

    assert [(request, said) for request, (status, said) in zip(requests, answers, strict=True) if status == 500] == []
    assert len(requests) > 1_500


def test_no_word_in_a_query_or_a_path_is_a_fault_of_ours(
    routes: dict[str, dict[str, Any]], caller: httpx2.Client, operator: httpx2.Client
) -> None:
    asked = 0
    for path, methods in routes.items():
        for method, described in methods.items():
            client = who(path, caller, operator)
            for parameter in described.get("parameters", []):
                for odd in ODD_WORDS:
                    if parameter["in"] == "path":
                        words: dict[str, Any] = {}
                        place = path.replace(f"{{{parameter['name']}}}", httpx2.URL(f"/{odd}").raw_path.decode()[1:])
                    else:
                        place, words = path, {"params": {parameter["name"]: odd}}
                    if method != "get":
                        words["json"] = {}
                    status, said = ask(client, method, place, **words)
                    assert status != 500, (method, place, words, said)
                    asked += 1

    assert asked > 300


@pytest.mark.parametrize("more", [{"n": 2**63}, {"max_completion_tokens": 2**62, "n": 8}])
def test_more_tokens_than_any_call_takes_are_quoted_as_the_most(caller: httpx2.Client, more: dict[str, int]) -> None:
    answer = caller.post("/quote", json=CHAT | more)

    assert answer.status_code == 200
    assert answer.json()["most_output_tokens"] == MAX_CALL_TOKENS


@pytest.mark.parametrize("tier", [[], {}, 7, True, [None]])
def test_a_service_tier_that_is_no_string_is_refused_by_name(caller: httpx2.Client, tier: object) -> None:
    for path in ("/v1/chat/completions", "/jobs", "/quote"):
        answer = caller.post(path, json=CHAT | {"service_tier": tier})

        assert (answer.status_code, error_of(answer)["param"]) == (400, "service_tier")


@pytest.mark.parametrize(
    "amount", ["1e-999999999", "1e-10", "NaN", "-Infinity", 0, -1, "1e30", 1e30, "9" * 500, True, []]
)
def test_an_amount_that_is_none_is_refused_by_name(caller: httpx2.Client, amount: object) -> None:
    answer = caller.post("/jobs", json=CHAT | {"max_cost_usd": amount})

    assert (answer.status_code, error_of(answer)["param"]) == (400, "max_cost_usd")


def test_a_tenant_that_does_not_exist_is_not_found_by_name(operator: httpx2.Client, tenant: str) -> None:
    ghost = {"x-penstock-tenant": tenant}
    answers = [
        operator.post("/jobs", json=CHAT, headers=ghost),
        operator.post("/v1/chat/completions", json=CHAT, headers=ghost),
        operator.get("/jobs", headers=ghost),
        operator.post("/v1/files", headers=ghost, data={"purpose": "batch"}, files={"file": b"x"}),
    ]

    assert [answer.status_code for answer in answers] == [404] * 4
    assert {error_of(answer)["param"] for answer in answers} == {"x-penstock-tenant"}
    assert tenant in error_of(answers[0])["message"]


@pytest.mark.parametrize(
    "seconds", ["000000003600" + "9" * 20, "9" * 5_000, "\u0663\u0666\u0660\u0660", "3600.0", "-3600", ""]
)
def test_a_life_that_is_no_number_of_seconds_is_refused_by_name(caller: httpx2.Client, seconds: str) -> None:
    form = {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": seconds}

    answer = caller.post("/v1/files", data=form, files={"file": b"x"})

    assert (answer.status_code, error_of(answer)["param"]) == (400, "expires_after.seconds")
