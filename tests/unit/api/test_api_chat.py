"""`/v1/chat/completions`, plain and streamed: what is answered, what ends a stream, and what a lost client costs."""

import asyncio

import orjson
import pytest

from schemas.accepted import Rested
from schemas.errors import RedisUnavailable
from schemas.ids import JobId, TenantId
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.states import JobState
from tests.support.door import MESSAGES, Caller, app_over, client_of, error_of
from tests.support.house import REPLY, FakeHouse, a_chunk, a_rest

URL = "/v1/chat/completions"
BODY: JsonObject = {"model": "small", "messages": MESSAGES}


def events_of(text: str) -> list[JsonObject | str]:
    found = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    return [data if data == "[DONE]" else orjson.loads(data) for data in found]


async def test_a_completion_is_the_reply_as_it_came() -> None:
    async with client_of(FakeHouse()) as client:
        answer = await client.post(URL, json=BODY)

    assert (answer.status_code, answer.json()) == (200, REPLY)
    assert answer.headers["x-request-id"].startswith("req_")
    assert "x-penstock-wait-ms" not in answer.headers


async def test_a_call_that_waited_says_how_long_where_and_what_served_it() -> None:
    house = FakeHouse()
    house.intake.wait_ms = 40
    async with client_of(house) as client:
        answer = await client.post(URL, json=BODY)

    told = {name: answer.headers[f"x-penstock-{name}"] for name in ("wait-ms", "lane", "tier")}
    assert told == {"wait-ms": "40", "lane": "critical", "tier": "m-1"}


async def test_a_call_is_critical_unless_it_says_otherwise_and_extras_stay_here() -> None:
    house = FakeHouse()
    async with client_of(house) as client:
        await client.post(URL, json=BODY, headers={"idempotency-key": "k1"})
        await client.post(URL, json=BODY | {"lane": "low", "metadata": {"deadline_seconds": "9", "mine": "x"}})

    first, second = house.intake.jobs.values()
    assert (first.lane, first.idempotency_key, second.lane) == (Lane.CRITICAL, "k1", Lane.LOW)
    assert second.body == BODY | {"metadata": {"mine": "x"}}


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (BODY | {"model": "gone"}, 404, "model"),
        ({"messages": MESSAGES}, 400, "model"),
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
async def test_a_wrong_field_is_named(body: JsonObject, status: int, param: str) -> None:
    async with client_of(FakeHouse()) as client:
        answer = await client.post(URL, json=body)

    assert answer.status_code == status
    assert error_of(answer)["param"] == param


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"\xff"])
async def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    async with client_of(FakeHouse()) as client:
        answer = await client.post(URL, content=content)

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
async def test_what_could_not_be_kept_or_means_nothing_is_refused(member: str) -> None:
    text = orjson.dumps(BODY).decode().removesuffix("}") + f", {member}}}"
    async with client_of(FakeHouse()) as client:
        answer = await client.post(URL, content=text)

    assert answer.status_code == 400
    assert error_of(answer)["type"] == "invalid_request_error"


async def test_a_body_above_the_cap_is_refused_before_it_is_read() -> None:
    async with client_of(FakeHouse(), max_body_bytes=100) as client:
        answer = await client.post(URL, json=BODY | {"user": "x" * 200})

    assert answer.status_code == 413
    assert error_of(answer)["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("end", "status", "code", "retry"),
    [
        (a_rest(JobState.DEAD, dead_reason="invalid_output", message="no JSON"), 422, "invalid_output", "false"),
        (a_rest(JobState.DEAD, dead_reason="refused"), 422, "refused", "false"),
        (a_rest(JobState.DEAD, dead_reason="bad_request"), 400, "bad_request", None),
        (a_rest(JobState.DEAD, dead_reason="unknown_price"), 400, "unknown_price", "false"),
        (a_rest(JobState.DEAD, dead_reason="tries_exhausted"), 502, "tries_exhausted", "false"),
        (a_rest(JobState.DEAD, dead_reason="ambiguous"), 504, "ambiguous", "false"),
        (a_rest(JobState.CANCELLED, dead_reason="budget"), 429, "project_spend_limit_exceeded", "false"),
        (a_rest(JobState.CANCELLED, dead_reason="requests_per_minute"), 429, "rate_limit_exceeded", None),
        (a_rest(JobState.CANCELLED, dead_reason="account_stopped"), 503, "provider_account_stopped", "false"),
        (a_rest(JobState.CANCELLED), 503, "upstream_unavailable", None),
        (a_rest(JobState.EXPIRED), 504, "deadline_exceeded", "false"),
        (a_rest(JobState.RUNNING), 409, "request_in_progress", "true"),
    ],
)
async def test_an_end_without_an_answer_has_its_status(end: Rested, status: int, code: str, retry: str | None) -> None:
    house = FakeHouse()
    house.intake.ends = [end, end]
    async with client_of(house) as client:
        plain = await client.post(URL, json=BODY)
        streamed = await client.post(URL, json=BODY | {"stream": True})

    for answer in (plain, streamed):
        assert (answer.status_code, error_of(answer)["code"]) == (status, code)
        assert answer.headers.get("x-should-retry") == retry


async def test_a_redis_that_is_away_is_a_503_with_a_time_to_come_back() -> None:
    house = FakeHouse()
    house.intake.trouble = RedisUnavailable()
    async with client_of(house) as client:
        answers = [await client.post(URL, json=BODY | {"stream": stream}) for stream in (False, True)]

    assert [(one.status_code, one.headers["retry-after"]) for one in answers] == [(503, "5"), (503, "5")]
    assert error_of(answers[0])["type"] == "service_unavailable_error"


async def test_a_bug_says_little_and_is_not_retried() -> None:
    house = FakeHouse()
    house.intake.trouble = RuntimeError("postgresql://secret@host")
    async with client_of(house) as client:
        answer = await client.post(URL, json=BODY)

    assert (answer.status_code, answer.headers["x-should-retry"]) == (500, "false")
    assert "secret" not in answer.text
    assert error_of(answer)["code"] == "internal_error"


async def test_a_stream_brings_its_chunks_and_its_end() -> None:
    house = FakeHouse()
    house.intake.chunks = [a_chunk("fi"), a_chunk("ne")]
    async with client_of(house) as client:
        answer = await client.post(URL, json=BODY | {"stream": True})

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-penstock-lane"] == "critical"
    assert events_of(answer.text) == [a_chunk("fi"), a_chunk("ne"), "[DONE]"]


async def test_a_reply_that_was_not_told_on_the_way_is_streamed_whole_at_the_end() -> None:
    async with client_of(FakeHouse()) as client:
        body = BODY | {"stream": True, "stream_options": {"include_usage": True}}
        *chunks, done = events_of((await client.post(URL, json=body)).text)

    assert done == "[DONE]"
    assert [chunk["choices"] and chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, "stop", []]  # type: ignore[index]
    assert [chunk["usage"] for chunk in chunks] == [None, None, REPLY["usage"]]  # type: ignore[index]


async def test_a_validated_stream_sends_nothing_of_a_reply_that_breaks_its_contract() -> None:
    house = FakeHouse()
    house.intake.chunks = [a_chunk("bad")]
    house.intake.ends = [a_rest(JobState.DEAD, dead_reason="invalid_output", message="it is bad")]
    async with client_of(house) as client:
        answer = await client.post(URL, json=BODY | {"stream": True, "stream_validated": True})

    [job] = house.intake.jobs.values()
    assert answer.status_code == 422
    assert job.body == BODY


async def test_a_streamed_reply_that_breaks_its_contract_ends_with_an_error_event() -> None:
    house = FakeHouse()
    house.intake.chunks = [a_chunk("bad")]
    house.intake.ends = [a_rest(JobState.DEAD, dead_reason="contract_violation", message="it is bad")]
    async with client_of(house) as client:
        answer = await client.post(URL, json=BODY | {"stream": True})

    first, last = events_of(answer.text)
    assert (answer.status_code, first) == (200, a_chunk("bad"))
    assert last == {
        "error": {
            "message": "it is bad",
            "type": "invalid_output_error",
            "param": None,
            "code": "contract_violation",
        }
    }


async def test_a_bug_in_the_middle_of_a_stream_is_told_and_never_ends_it_silently() -> None:
    house = FakeHouse()
    house.intake.chunks, house.intake.late_trouble = [a_chunk("fi")], RuntimeError("secret")
    async with app_over(house) as app:
        caller = Caller(BODY | {"stream": True})
        with pytest.raises(RuntimeError):
            await app(caller.scope(), caller.receive, caller.send)

    events = events_of(b"".join(message.get("body", b"") for message in caller.sent).decode())
    assert events[0] == a_chunk("fi")
    assert events[1]["error"]["code"] == "internal_error"  # type: ignore[index]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_goes_away_takes_its_job_with_it(streamed: bool) -> None:  # noqa: FBT001 - a parameter
    house, caller = FakeHouse(), Caller(BODY | {"stream": streamed})
    house.intake.gate.clear()
    async with app_over(house) as app:
        call = asyncio.create_task(app(caller.scope(), caller.receive, caller.send))
        await house.intake.begun.wait()
        caller.gone.set()
        await asyncio.wait_for(call, 5)

    assert house.intake.cancelled == list(house.intake.jobs)
    assert house.intake.abandoned == 1
    assert caller.status == 499
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_client_that_goes_away_in_the_middle_of_a_stream_takes_its_job_with_it() -> None:
    house, caller = FakeHouse(), Caller(BODY | {"stream": True})
    house.intake.gate.clear()
    house.intake.chunks = [a_chunk("fi")]
    async with app_over(house) as app:
        call = asyncio.create_task(app(caller.scope(), caller.receive, caller.send))
        await asyncio.wait_for(caller.bodies.get(), 5)
        caller.gone.set()
        await asyncio.wait_for(call, 5)

    assert house.intake.cancelled == list(house.intake.jobs)
    assert house.intake.abandoned == 1
    assert caller.status == 200
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_job_of_a_call_belongs_to_the_tenant_of_its_key() -> None:
    house = FakeHouse()
    await house.keys.create("key_1", "pk_acme", TenantId("acme"), ["submit"])  # type: ignore[arg-type]
    async with client_of(house, key="pk_acme") as client:
        await client.post(URL, json=BODY)

    assert [job.tenant_id for job in house.intake.jobs.values()] == ["acme"]
    assert JobId("job_0") not in house.intake.jobs
