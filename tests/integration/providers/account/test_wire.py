"""What happens on the wire itself: what was certainly not sent, what may have been, and answers that are none."""

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from config.catalogue import Catalogue, ModelTable, ProviderTable
from config.settings import Settings
from providers.account.accounts import SPARE_CONNECTIONS
from providers.models import Models, open_models
from schemas.errors import InvalidSetting
from schemas.ids import AttemptId, BatchId
from schemas.jsons import JsonObject, dumps, parse
from schemas.plan import Plan
from schemas.reply import Reply, Trouble, TroubleKind
from schemas.storable import storable
from tests.support.canned_server import CLOSE, answer, canned_server, event_stream
from tests.support.fakes import a_job
from tests.support.simulator_process import SimulatorProcess

COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
FINE = answer("200 OK", orjson.dumps(COMPLETION))
PIECE = '{"id":"c","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}'
LAST = '{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
OVERLOADED = '{"error":{"message":"busy","type":"t","code":"rate_limit_exceeded"}}'
BROKEN = '{"error":{"message":"broken","type":"server_error","code":null}}'


@asynccontextmanager
async def models_at(
    base_url: str,
    *,
    lookup: bool = False,
    slots: int = 4,
    connect_seconds: float = 3.0,
    first_byte_seconds: float = 3.0,
    most_bytes: int = 1_000_000,
) -> AsyncIterator[Models]:
    settings = Settings.model_construct(
        slots=slots,
        connect_timeout_seconds=connect_seconds,
        first_byte_timeout_seconds=first_byte_seconds,
        between_chunks_timeout_seconds=0.5,
        total_timeout_seconds=30,
        max_reply_bytes=most_bytes,
    )
    catalogue = Catalogue(
        providers={"openai": ProviderTable(base_url=base_url, lookup=lookup)},
        models={"m": ModelTable()},
        aliases={},
    )
    async with open_models(catalogue, settings, {"OPENAI_API_KEY": "a-key-of-our-own"}) as models:
        yield models


def planned(models: Models, **changes: object) -> Plan:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    job = a_job(**{"body": body, **changes})
    return models.plan(job, models.chain("m")[0], job.body, datetime.now(UTC))


async def called(models: Models, heard: list[JsonObject] | None = None) -> Reply | Trouble:
    async def hear(chunk: JsonObject) -> None:
        if heard is not None:
            heard.append(chunk)

    listener = None if heard is None else hear
    return await models.call(planned(models), AttemptId("att_1"), deadline_seconds=5, on_chunk=listener)


async def told(*answers: bytes, heard: list[JsonObject] | None = None) -> list[Reply | Trouble]:
    """Make one call per answer, one after the other, and see that each was one request."""
    async with canned_server(answers) as (base_url, requests), models_at(base_url) as models:
        found = [await called(models, heard) for _ in answers]
        assert len(requests) == len(answers)
        return found


async def trouble(canned: bytes, heard: list[JsonObject] | None = None) -> Trouble:
    [found] = await told(canned, heard=heard)
    assert isinstance(found, Trouble)
    return found


async def test_a_refused_connection_is_not_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with models_at(f"http://127.0.0.1:{unused.getsockname()[1]}/v1") as models:
            found = await called(models)

    assert isinstance(found, Trouble)
    assert found.kind is TroubleKind.NOT_SENT


async def test_a_tls_handshake_that_does_not_come_about_is_not_sent() -> None:
    async with canned_server([FINE]) as (base_url, requests):
        async with models_at(base_url.replace("http:", "https:"), connect_seconds=0.3) as models:
            found = await called(models)

        assert isinstance(found, Trouble)
        assert found.kind is TroubleKind.NOT_SENT
        assert requests == []


PLACES = 2
"""Calls of a process with one slot."""


async def test_waiting_for_a_connection_of_the_pool_is_not_sent() -> None:
    """All connections are in calls that hang, and one call more asks for one."""
    body = {"model": "m", "messages": [{"role": "user", "content": "[[scenario:hang]]"}]}
    with SimulatorProcess.start("--model", "m=1/1/1") as provider:
        async with models_at(provider.base_url, slots=1, connect_seconds=1, first_byte_seconds=30) as models:
            plan = planned(models, body=body)

            def calling(name: str) -> Coroutine[Any, Any, Reply | Trouble]:
                return models.call(plan, AttemptId(name), deadline_seconds=30, on_chunk=None)

            names = [f"hanging_{number}" for number in range(SPARE_CONNECTIONS + PLACES)]
            hanging = [asyncio.create_task(calling(name)) for name in names]
            async with asyncio.timeout(20):
                while (await asyncio.to_thread(provider.meter))["concurrent"] < len(hanging):
                    for number, name in enumerate(names):
                        if hanging[number].done():  # it was slow to connect
                            hanging[number] = asyncio.create_task(calling(name))
            found = await calling("waiting")
            hits = await asyncio.to_thread(provider.hits)
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)

    assert isinstance(found, Trouble)
    assert found.kind is TroubleKind.NOT_SENT
    assert "waiting" not in hits


async def test_a_kept_alive_connection_that_is_lost_after_sending_is_ambiguous() -> None:
    first, second = await told(FINE, CLOSE)

    assert isinstance(first, Reply)
    assert isinstance(second, Trouble)
    assert second.kind is TroubleKind.AMBIGUOUS


@pytest.mark.parametrize(
    ("canned", "kind", "words"),
    [
        (answer("202 Accepted", b'{"id":"job_1","status":"queued"}'), TroubleKind.UNKNOWN, "202"),
        (answer("200 OK", b"<html>hello</html>", content_type="text/html"), TroubleKind.UNKNOWN, "200"),
        (answer("200 OK", b'{"choices": ['), TroubleKind.UNKNOWN, "no chat completion"),
        (answer("200 OK", b'{"choices": []}'), TroubleKind.UNKNOWN, "no chat completion"),
        (answer("200 OK", b""), TroubleKind.UNKNOWN, "no chat completion"),
        (answer("200 OK", OVERLOADED.encode()), TroubleKind.THROTTLE, "busy"),
        (answer("502 Bad Gateway", b"<html>prompt</html>", content_type="text/html"), TroubleKind.SERVER, "502"),
        (answer("307 Temporary Redirect", b"", "location: /v2"), TroubleKind.UNKNOWN, "307"),
        (answer("401 Unauthorized", b'{"error":{"message":"a-key-of-our-own"}}'), TroubleKind.AUTH, "[redacted]"),
        (
            answer("403 Forbidden", b'{"code":"permission-denied","error":"Not this."}'),
            TroubleKind.FORBIDDEN,
            "Not this.",
        ),
        (answer("403 Forbidden", b"<html><title>Blocked</title>"), TroubleKind.FORBIDDEN, "with a page: Blocked"),
        (answer("403 Forbidden", b""), TroubleKind.FORBIDDEN, "403 without saying why"),
        (answer("402 Payment Required", b"\xff\xfe"), TroubleKind.MODEL_FORBIDDEN, "402 without saying why"),
        (FINE[:-10] + CLOSE, TroubleKind.AMBIGUOUS, "Silence"),
        (b"nonsense\r\n\r\n", TroubleKind.AMBIGUOUS, "connection was lost"),
    ],
)
async def test_answers_that_are_none(canned: bytes, kind: TroubleKind, words: str) -> None:
    found = await trouble(canned)

    assert found.kind is kind
    assert words in found.message
    assert "prompt" not in found.message


async def test_a_stream_without_done_is_cut() -> None:
    found = await trouble(event_stream(PIECE, LAST), [])

    assert found.kind is TroubleKind.CUT
    assert found.partial_text == "hi"


async def test_a_stream_without_a_finish_reason_is_cut() -> None:
    found = await trouble(event_stream(PIECE, "[DONE]"), [])

    assert found.kind is TroubleKind.CUT
    assert found.usage is not None
    assert found.usage.output_tokens == 2


async def test_a_stream_that_is_lost_before_its_first_chunk_is_ambiguous() -> None:
    found = await trouble(event_stream(), [])

    assert found.kind is TroubleKind.AMBIGUOUS
    assert found.usage is None


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ((PIECE, OVERLOADED), TroubleKind.THROTTLE),
        ((PIECE, BROKEN), TroubleKind.CUT),
        ((BROKEN,), TroubleKind.SERVER),
        ((PIECE, "{broken"), TroubleKind.CUT),
        ((PIECE, '{"choices": 5}'), TroubleKind.CUT),
    ],
)
async def test_an_error_in_a_stream_is_classified_by_its_code(events: Sequence[str], kind: TroubleKind) -> None:
    found = await trouble(event_stream(*events), [])

    assert found.kind is kind


async def test_a_whole_stream_survives_what_follows_it() -> None:
    heard: list[JsonObject] = []
    [found] = await told(event_stream(PIECE, LAST, "[DONE]", "trailing"), heard=heard)

    assert isinstance(found, Reply)
    assert found.text == "hi"
    assert len(heard) == 2


async def test_a_stream_that_is_answered_in_one_piece_is_heard_as_one_chunk() -> None:
    heard: list[JsonObject] = []
    [found] = await told(FINE, heard=heard)

    assert isinstance(found, Reply)
    assert [chunk["choices"][0]["delta"]["content"] for chunk in heard] == ["fine"]


async def test_the_request_on_the_wire() -> None:
    """The model's own body, the attempt's id, the key, and nothing that only the SDK would add for a retry."""
    async with canned_server([FINE]) as (base_url, requests), models_at(base_url, lookup=True) as models:
        await called(models)

    head, _, body = requests[0].partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert head.startswith(b"POST /v1/chat/completions ")
    assert b"x-client-request-id: att_1" in lines
    assert b"authorization: bearer a-key-of-our-own" in lines
    assert b"x-stainless-retry-count: 0" in lines
    assert orjson.loads(body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_completion_tokens": 1_024,
        "store": True,
        "metadata": {"job_id": "job_1", "attempt_id": "att_1"},
    }


async def test_a_line_of_a_batch_is_asked_for_one_whole_answer() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, "stream_options": {}}
    async with models_at("http://127.0.0.1:9/v1") as models:
        batched = planned(models, body=body, batch_id=BatchId("batch_1"))
        single = planned(models, body=body)

    assert "stream" not in batched.body
    assert "stream_options" not in batched.body
    assert single.body["stream"] is True


async def test_an_unknown_price_costs_nothing_and_says_so() -> None:
    async with models_at("http://127.0.0.1:9/v1") as models:
        plan = planned(models)

    assert not plan.price.is_known
    assert plan.quote.cost_nano_usd == 0
    assert plan.quote.output_tokens == 1_024


async def test_a_missing_key_refuses_to_start_and_names_its_variable() -> None:
    with pytest.raises(InvalidSetting, match="OPENAI_API_KEY"):
        async with open_models(Catalogue(), Settings.model_construct(), {}):
            pass


DIGITS = b'{"wei":100000000000000000001,"rate":0.12345678901234567890123}'


async def test_numbers_travel_digit_for_digit_in_both_directions() -> None:
    said = orjson.dumps(COMPLETION)[:-1] + b',"extra":' + DIGITS + b"}"
    async with canned_server([answer("200 OK", said)]) as (base_url, requests), models_at(base_url) as models:
        plan = planned(models, body={"model": "m", "messages": [], "extra": parse(DIGITS)})
        found = await models.call(plan, AttemptId("att_1"), deadline_seconds=5, on_chunk=None)

    assert b'"extra":' + DIGITS in requests[0]
    assert isinstance(found, Reply)
    assert dumps(found.body["extra"]) == DIGITS


@pytest.mark.parametrize(
    "body",
    [
        orjson.dumps(COMPLETION).replace(b'"fine"', b'"smile \\ud83d\\u0000"'),
        orjson.dumps(COMPLETION).replace(b'"total_tokens":4', b'"total_tokens":-Infinity'),
        orjson.dumps(COMPLETION).replace(b'"created":1', b'"created":' + b"[" * 150 + b"]" * 150),
    ],
)
async def test_what_providers_send_against_the_rules_is_read_all_the_same(body: bytes) -> None:
    [found] = await told(answer("200 OK", body))

    assert isinstance(found, Reply)
    assert storable(found.body) is found.body


@pytest.mark.parametrize("odd", [b"[" * 250 + b"]" * 250, b"9" * 5_000, b"1e99999999"])
async def test_what_cannot_be_read_within_bounds_is_trouble(odd: bytes) -> None:
    found = await trouble(answer("200 OK", orjson.dumps(COMPLETION).replace(b'"created":1', b'"created":' + odd)))

    assert found.kind is TroubleKind.UNREADABLE
