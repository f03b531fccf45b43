"""`/v1/chat/completions`, plain and streamed: what is answered, what is refused by name, what ends a stream."""

import httpx2
import orjson
import pytest

from schemas.jsons import JsonObject
from tests.integration.api.conftest import MOST_BODY_BYTES, Premises
from tests.support.web_process import error_of, eventually

URL = "/v1/chat/completions"
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
WRONG = '[[answer:{"n": "one"}]]'
CONTRACT = {"output_contract": {"schema": SCHEMA}}


def asking(text: str, **more: object) -> JsonObject:
    return {"model": "small", "messages": [{"role": "user", "content": text}], **more}


BODY = asking("[[answer:fine]]")


def events_of(text: str) -> list[JsonObject | str]:
    found = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    return [data if data == "[DONE]" else orjson.loads(data) for data in found]


def told_text(chunks: list[JsonObject | str]) -> str:
    choices = [choice for chunk in chunks if isinstance(chunk, dict) for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_a_completion_is_the_reply_as_it_came(caller: httpx2.Client) -> None:
    answer = caller.post(URL, json=BODY)

    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "fine"
    assert answer.headers["x-request-id"].startswith("req_")


def test_a_call_is_critical_unless_it_says_otherwise_and_extras_stay_here(caller: httpx2.Client) -> None:
    caller.post(URL, json=BODY, headers={"idempotency-key": "k1"})
    caller.post(URL, json=BODY | {"lane": "low", "metadata": {"deadline_seconds": "9", "mine": "x"}})

    second, first = caller.get("/jobs").json()["data"]
    story = caller.get(f"/jobs/{second['id']}").json()
    assert (first["lane"], second["lane"]) == ("critical", "low")
    assert story["request"] == BODY | {"metadata": {"mine": "x"}}


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (BODY | {"model": "gone"}, 404, "model"),
        ({"messages": BODY["messages"]}, 400, "model"),
        ({"model": "small"}, 400, "messages"),
        (BODY | {"messages": ["x"]}, 400, "messages[0]"),
        (BODY | {"lane": "express"}, 400, "lane"),
        (BODY | {"stream": "yes"}, 400, "stream"),
        (BODY | {"stream": True, "stream_options": 1}, 400, "stream_options"),
        (BODY | {"stream": True, "stream_validated": 1}, 400, "stream_validated"),
        (BODY | {"deadline_seconds": -1}, 400, "deadline_seconds"),
        (BODY | {"max_cost_usd": "much"}, 400, "max_cost_usd"),
        (BODY | {"output_contract": {"schema": {"type": 1}}}, 400, "output_contract"),
        (BODY | {"user": "a\0b"}, 400, "user"),
    ],
)
def test_a_wrong_field_is_named(caller: httpx2.Client, body: JsonObject, status: int, param: str) -> None:
    answer = caller.post(URL, json=body)

    assert answer.status_code == status
    assert error_of(answer)["param"] == param


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"\xff"])
def test_what_is_no_json_object_is_refused(caller: httpx2.Client, content: bytes) -> None:
    answer = caller.post(URL, content=content)

    assert answer.status_code == 400
    assert error_of(answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "member",
    [
        '"x": ' + "[" * 300 + "]" * 300,
        '"x": ' + "[" * 100_000 + "]" * 100_000,
        '"output_contract": "' + "[" * 50_000 + '"',
        '"user": "\\ud800"',
        '"deadline_seconds": ' + "9" * 400,
        '"deadline_seconds": NaN',
        '"deadline_seconds": []',
        '"max_cost_usd": "1e999999999"',
        '"max_cost_usd": 1e300',
        '"max_cost_usd": "NaN"',
        '"max_cost_usd": {}',
        '"lane": []',
        '"metadata": []',
        '"response_format": []',
        '"stream": true, "stream_validated": []',
    ],
)
def test_what_could_not_be_kept_or_means_nothing_is_refused(caller: httpx2.Client, member: str) -> None:
    text = orjson.dumps(BODY).decode().removesuffix("}") + f", {member}}}"

    answer = caller.post(URL, content=text)

    assert answer.status_code == 400
    assert error_of(answer)["type"] == "invalid_request_error"


def test_a_body_above_the_cap_is_refused_before_it_is_read(caller: httpx2.Client) -> None:
    answer = caller.post(URL, json=BODY | {"user": "x" * MOST_BODY_BYTES})

    assert answer.status_code == 413
    assert error_of(answer)["code"] == "request_too_large"


@pytest.mark.parametrize("streamed", [{}, {"stream": True, "stream_validated": True}])
def test_an_end_without_an_answer_has_its_status_for_a_stream_as_well(
    caller: httpx2.Client, streamed: JsonObject
) -> None:
    answer = caller.post(URL, json=asking("[[scenario:refusal]]", **CONTRACT, **streamed))

    assert (answer.status_code, error_of(answer)["code"]) == (422, "refused")
    assert answer.headers["x-should-retry"] == "false"


def test_a_stream_brings_its_chunks_and_its_end(caller: httpx2.Client) -> None:
    answer = caller.post(URL, json=asking("[[answer:one two three]]", stream=True))

    *chunks, done = events_of(answer.text)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-penstock-lane"] == "critical"
    assert (told_text(chunks), done) == ("one two three", "[DONE]")


def test_a_reply_that_was_not_told_on_the_way_is_streamed_whole_at_the_end(caller: httpx2.Client) -> None:
    body = BODY | {"stream": True, "stream_validated": True, "stream_options": {"include_usage": True}}

    *chunks, done = events_of(caller.post(URL, json=body).text)

    assert done == "[DONE]"
    assert [chunk["choices"] and chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, "stop", []]  # type: ignore[index]
    assert [bool(chunk["usage"]) for chunk in chunks] == [False, False, True]  # type: ignore[index]


def test_a_validated_stream_sends_nothing_of_a_reply_against_its_contract(
    caller: httpx2.Client, premises: Premises
) -> None:
    with premises.trouble(wrong_type=1.0):
        answer = caller.post(URL, json=asking("a number", stream=True, stream_validated=True, **CONTRACT))

    assert answer.status_code == 422
    assert error_of(answer)["code"] == "invalid_output"


def test_a_streamed_reply_against_its_contract_ends_with_an_error_event(caller: httpx2.Client) -> None:
    answer = caller.post(URL, json=asking(WRONG, stream=True, **CONTRACT))

    *chunks, last = events_of(answer.text)
    assert (answer.status_code, told_text(chunks)) == (200, '{"n": "one"}')
    assert isinstance(last, dict)
    assert (last["error"]["type"], last["error"]["code"]) == ("invalid_output_error", "contract_violation")


def test_a_client_that_leaves_in_the_middle_of_a_stream_cancels_its_job(caller: httpx2.Client) -> None:
    with caller.stream("POST", URL, json=asking("[[scenario:stalled]] a long story", stream=True)) as answer:
        first = next(answer.iter_lines())

    [job] = caller.get("/jobs").json()["data"]
    ended = eventually(lambda: caller.get(f"/jobs/{job['id']}").json(), lambda now: now["state"] != "running")
    assert first.startswith("data: ")
    assert ended["state"] == "cancelled"


def test_the_job_of_a_call_belongs_to_the_tenant_of_its_key(
    caller: httpx2.Client, operator: httpx2.Client, tenant: str
) -> None:
    caller.post(URL, json=BODY)

    [own] = operator.get("/jobs", headers={"x-penstock-tenant": tenant}).json()["data"]
    assert own["id"] not in {job["id"] for job in operator.get("/jobs").json()["data"]}
