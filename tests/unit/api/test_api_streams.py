"""Streams and presence beneath the routes: heartbeats, whole replies in chunks, work that ends with its client."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.types import Message

from api.openai.events import DONE, KEEP_ALIVE, chunks_of, event
from api.openai.streams import EventStream, Telling, told
from api.openai.waiting_events import WaitingEvents
from api.presence import ClientGone, while_present
from schemas.accepted import JobResult
from schemas.errors import RedisUnavailable
from tasks.execution.deps import OnChunk
from tests.support.rests import REPLY, a_chunk, a_rest


async def test_silence_between_chunks_is_filled_and_silence_before_them_is_not() -> None:
    heard = asyncio.Event()

    async def complete(on_chunk: OnChunk | None) -> JobResult:
        assert on_chunk is not None
        await asyncio.sleep(0)
        await on_chunk(a_chunk("a"))
        await heard.wait()
        return a_rest(reply=REPLY)

    events = []
    async for data in told(complete, Telling(live=True, keep_alive_seconds=0.001)):
        events.append(data)
        if data == KEEP_ALIVE:
            heard.set()

    assert (events[0], events[1], events[-1]) == (event(a_chunk("a")), KEEP_ALIVE, DONE)


async def test_trouble_before_the_first_chunk_is_raised_and_after_it_is_an_event() -> None:
    async def early(_: OnChunk | None) -> JobResult:
        raise RedisUnavailable

    async def late(on_chunk: OnChunk | None) -> JobResult:
        assert on_chunk is not None
        await on_chunk(a_chunk("a"))
        raise RedisUnavailable

    with pytest.raises(RedisUnavailable):
        [data async for data in told(early, Telling(live=True))]
    events = [data async for data in told(late, Telling(live=True))]
    assert b'"code":"unavailable"' in events[-1]
    assert DONE not in events


def test_tool_calls_of_a_whole_reply_are_numbered_as_a_stream_numbers_them() -> None:
    calls = [{"id": f"call_{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in range(2)]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    reply = REPLY | {"choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}]}

    first, last = chunks_of(reply, include_usage=False)

    assert [call["index"] for call in first["choices"][0]["delta"]["tool_calls"]] == [0, 1]
    assert last["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "tool_calls"}


async def test_work_ends_with_its_client_and_leaves_nothing_running() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGone):
        await while_present(receive, work())
    assert ended.is_set()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_work_that_is_done_is_answered_even_to_who_leaves_now() -> None:
    async def work() -> str:
        return "done"

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    assert await while_present(receive, work()) == "done"


class Listener:
    """Whoever is told a stream, by bare ASGI messages; leaves when `gone` is set."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.reads, self.asked = asyncio.Event(), asyncio.Event()
        self.reads.set()
        self.bodies: asyncio.Queue[bytes] = asyncio.Queue()
        self.cancelled = 0

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self.asked.set()
            await self.reads.wait()
        if body := message.get("body"):
            self.bodies.put_nowait(body)

    async def cancel(self) -> None:
        self.cancelled += 1

    async def hear(self, complete: Callable[[OnChunk | None], Coroutine[Any, Any, JobResult]]) -> None:
        stream = EventStream(complete, Telling(live=True), about=lambda _: {}, on_gone=self.cancel)
        await stream({"type": "http"}, self.receive, self.send)


async def test_a_bug_in_the_middle_of_a_stream_ends_it_with_an_error_event() -> None:
    async def complete(on_chunk: OnChunk | None) -> JobResult:
        assert on_chunk is not None
        await on_chunk(a_chunk("fi"))
        raise RuntimeError("secret")

    listener = Listener()
    with pytest.raises(RuntimeError):
        await listener.hear(complete)

    assert listener.bodies.get_nowait() == event(a_chunk("fi"))
    last = listener.bodies.get_nowait()
    assert b'"code":"internal_error"' in last
    assert b"secret" not in last


async def test_a_listener_that_leaves_as_a_chunk_arrives_takes_the_work_with_it() -> None:
    more, ended = asyncio.Event(), asyncio.Event()

    async def complete(on_chunk: OnChunk | None) -> JobResult:
        assert on_chunk is not None
        try:
            await on_chunk(a_chunk("a"))
            await more.wait()
            await on_chunk(a_chunk("b"))
            await asyncio.Event().wait()
        finally:
            ended.set()
        return a_rest(reply=REPLY)

    listener = Listener()
    hearing = asyncio.create_task(listener.hear(complete))
    await listener.bodies.get()
    more.set()
    listener.gone.set()
    await asyncio.wait_for(hearing, 5)

    assert ended.is_set()
    assert listener.cancelled == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_events_that_wait_are_bounded_by_bytes_and_hold_up_who_sends_them() -> None:
    size = len(event(a_chunk("a")))
    waiting = WaitingEvents(most_bytes=3 * size)
    put: list[int] = []

    async def send() -> None:
        for number in range(10):
            await waiting.put(a_chunk("a"))
            put.append(number)
        waiting.close()

    sending = asyncio.create_task(send())
    await asyncio.sleep(0)
    assert len(put) == 3
    assert await waiting.get() == event(a_chunk("a"))
    await asyncio.sleep(0)
    assert len(put) == 4

    taken = 1
    while await waiting.get() is not None:
        taken += 1
    await sending
    assert taken == 10


async def test_an_event_beyond_the_bound_waits_alone_and_is_sent() -> None:
    waiting = WaitingEvents(most_bytes=1)
    await waiting.put(a_chunk("large"))
    second = asyncio.create_task(waiting.put(a_chunk("second")))
    await asyncio.sleep(0)

    assert not second.done()
    assert await waiting.get() == event(a_chunk("large"))
    await second
    assert await waiting.get() == event(a_chunk("second"))


async def test_a_call_waits_for_a_slow_client_and_is_cancelled_when_it_leaves() -> None:
    brought = 0

    async def complete(on_chunk: OnChunk | None) -> JobResult:
        nonlocal brought
        assert on_chunk is not None
        for _ in range(100):
            await on_chunk(a_chunk("x" * 10_000))
            brought += 1
        return a_rest(reply=REPLY)

    listener = Listener()
    listener.reads.clear()
    hearing = asyncio.create_task(listener.hear(complete))
    await asyncio.wait_for(listener.asked.wait(), 5)
    for _ in range(100):
        await asyncio.sleep(0)
    assert brought < 20

    listener.gone.set()
    await asyncio.wait_for(hearing, 5)
    assert listener.cancelled == 1
