"""How much is read of a provider's answer, and what becomes of one that is larger."""

import asyncio
import gzip

import orjson
import pytest

from providers.account.bounded import MAX_ERROR_BYTES, STREAM_FACTOR
from providers.account.http_client import LARGE_STREAM_BYTES, MAX_REPLY_VALUES
from providers.account.large_replies import LARGE_REPLIES_AT_ONCE, LARGE_REPLIES_OF_A_TENANT
from schemas.ids import AttemptId
from schemas.jsons import JsonObject
from schemas.reply import Reply, Trouble, TroubleKind
from tests.integration.providers.account.test_wire import COMPLETION, FINE, LAST, PIECE, models_at, planned
from tests.support.canned_server import answer, canned_server, event_stream

MOST_BYTES = 100_000
CUT_SECONDS = 20.0
LONG_EVENT_BYTES = 50_000
LARGE = COMPLETION | {"x": "y" * 2 * MOST_BYTES}
TEXT = '{"id":"c","choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}'
"""One event whose text is to be filled in."""


async def told(canned: bytes, *, streams: bool = False, most_bytes: int = MOST_BYTES) -> Reply | Trouble:
    """What becomes of this answer. Whatever it is, the next call to the same account is answered."""
    async with canned_server([canned, FINE]) as (base_url, _), models_at(base_url, most_bytes=most_bytes) as models:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": streams}
        plan = planned(models, body=body)
        found, after = [
            await models.call(plan, AttemptId("att_1"), deadline_seconds=CUT_SECONDS, on_chunk=None) for _ in range(2)
        ]
    assert isinstance(after, Reply)
    return found


async def trouble(canned: bytes, *, streams: bool = False, most_bytes: int = MOST_BYTES) -> Trouble:
    found = await told(canned, streams=streams, most_bytes=most_bytes)
    assert isinstance(found, Trouble)
    return found


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (orjson.dumps(LARGE), ()),
        (b" " * 50 * MOST_BYTES, ()),
        (gzip.compress(orjson.dumps(LARGE)), ("content-encoding: gzip",)),
        (gzip.compress(b" " * 500 * MOST_BYTES), ("content-encoding: gzip",)),
        (gzip.compress(gzip.compress(b" " * 500 * MOST_BYTES)), ("content-encoding: gzip, gzip",)),
    ],
)
async def test_an_answer_beyond_the_cap_is_unreadable(body: bytes, headers: tuple[str, ...]) -> None:
    found = await trouble(answer("200 OK", body, *headers))

    assert found.kind is TroubleKind.UNREADABLE
    assert "PENSTOCK_MAX_REPLY_BYTES" in found.message


async def test_an_answer_up_to_the_cap_is_read() -> None:
    body = orjson.dumps(COMPLETION | {"x": "y" * (MOST_BYTES - 1_000)})
    found = await told(answer("200 OK", gzip.compress(body), "content-encoding: gzip"))

    assert isinstance(found, Reply)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("429 Too Many Requests", TroubleKind.THROTTLE),
        ("500 Internal Server Error", TroubleKind.SERVER),
        ("400 Bad Request", TroubleKind.BAD_REQUEST),
    ],
)
async def test_an_error_with_an_endless_body_is_told_by_its_status(status: str, kind: TroubleKind) -> None:
    body = gzip.compress(b" " * 1_000 * MAX_ERROR_BYTES)
    found = await trouble(answer(status, body, "content-encoding: gzip", "retry-after: 7"))

    assert (found.kind, found.retry_after_ms) == (kind, 7_000 if kind is TroubleKind.THROTTLE else found.retry_after_ms)


async def test_of_an_error_no_more_is_read_than_a_sentence_needs() -> None:
    body = orjson.dumps({"x": "y" * MAX_ERROR_BYTES, "error": {"message": "far away"}})
    found = await trouble(answer("400 Bad Request", body))

    assert found.kind is TroubleKind.BAD_REQUEST
    assert "far away" not in found.message


async def test_a_stream_that_says_more_than_is_kept_is_unreadable_and_counted() -> None:
    found = await trouble(event_stream(*[TEXT % ("y" * 1_000)] * 200, LAST, "[DONE]"), streams=True)

    assert found.kind is TroubleKind.UNREADABLE
    assert found.usage is not None
    assert "PENSTOCK_MAX_REPLY_BYTES" in found.message


async def test_a_stream_of_nothing_ends_at_its_own_cap() -> None:
    framing = "\n: keep-alive" * (STREAM_FACTOR * MOST_BYTES // 10)

    assert (await trouble(event_stream(PIECE, framing, LAST, "[DONE]"), streams=True)).kind is TroubleKind.UNREADABLE


async def test_a_long_stream_of_short_pieces_is_read_whole() -> None:
    events = [TEXT % "a"] * (3 * MOST_BYTES // len(TEXT))
    found = await told(event_stream(*events, LAST, "[DONE]"), streams=True)

    assert isinstance(found, Reply)
    assert found.text == "a" * len(events)


async def test_an_event_beyond_the_cap_is_unreadable() -> None:
    found = await trouble(event_stream(TEXT % ("y" * 2 * MOST_BYTES), "[DONE]"), streams=True)

    assert found.kind is TroubleKind.UNREADABLE


async def test_values_beyond_their_bound_are_unreadable() -> None:
    body = b'{"choices":[{"message":{}}],"x":[' + b"0," * MAX_REPLY_VALUES + b"0]}"

    assert (await trouble(answer("200 OK", body), most_bytes=10 * len(body))).kind is TroubleKind.UNREADABLE


async def test_large_answers_that_come_together_are_all_read() -> None:
    answers = [answer("200 OK", orjson.dumps(COMPLETION | {"x": "y" * 400_000}))] * 9
    async with canned_server(answers) as (base_url, _), models_at(base_url, slots=9) as models:
        plan = planned(models)
        found = await asyncio.gather(
            *(
                models.call(plan, AttemptId(f"att_{number}"), deadline_seconds=CUT_SECONDS, on_chunk=None)
                for number in range(len(answers))
            )
        )

    assert all(isinstance(one, Reply) for one in found)


class SlowClient:
    """A client that takes what is sent without a permit, and then nothing more."""

    def __init__(self) -> None:
        self.chunks = 0
        self.is_stuck = asyncio.Event()

    async def hear(self, _: JsonObject) -> None:
        self.chunks += 1
        if self.chunks > LARGE_STREAM_BYTES // LONG_EVENT_BYTES:
            self.is_stuck.set()
            await asyncio.Event().wait()


async def test_slow_clients_of_a_tenant_delay_large_answers_of_that_tenant_only() -> None:
    events = [TEXT % ("y" * LONG_EVENT_BYTES)] * (LARGE_STREAM_BYTES // LONG_EVENT_BYTES + 10)
    streams = [event_stream(*events, "[DONE]")] * LARGE_REPLIES_AT_ONCE
    whole = answer("200 OK", orjson.dumps(COMPLETION | {"x": "y" * 400_000}))
    body: JsonObject = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    clients = [SlowClient() for _ in streams]
    async with (
        canned_server([*streams, whole]) as (base_url, _),
        models_at(base_url, slots=9, most_bytes=2 * LARGE_STREAM_BYTES) as models,
        asyncio.TaskGroup() as calls,
    ):
        greedy, modest = planned(models, body=body, tenant_id="greedy"), planned(models, tenant_id="modest")
        slow = [
            calls.create_task(
                models.call(greedy, AttemptId("att_g"), deadline_seconds=CUT_SECONDS, on_chunk=client.hear)
            )
            for client in clients
        ]
        stuck = [asyncio.create_task(client.is_stuck.wait()) for client in clients]
        for count in range(LARGE_REPLIES_OF_A_TENANT):
            await asyncio.wait(stuck[count:], timeout=CUT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            stuck.sort(key=lambda task: not task.done())
        found = await models.call(modest, AttemptId("att_m"), deadline_seconds=CUT_SECONDS / 4, on_chunk=None)
        for task in [*slow, *stuck]:
            task.cancel()

    assert sum(client.is_stuck.is_set() for client in clients) == LARGE_REPLIES_OF_A_TENANT
    assert isinstance(found, Reply)
