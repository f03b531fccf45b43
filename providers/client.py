"""One call to one account, whole or streamed. Trouble becomes a value here, at the wall; bugs and cancellation raise.

One call is one request: the SDK does not retry, redirects are not followed, and every time-out is ours. The SDK's
documented low-level `post` builds no model of the reply, which halves what a call costs.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import aiohttp
import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, AsyncStream

from config.marks import synchronous_step
from config.settings import Settings
from providers.bodies import asks_for_usage, streaming
from providers.exchange import Exchange
from providers.patience import Patience
from providers.sse import EventDecoder
from providers.streaming import Accumulator, MalformedChunkError, as_chunk
from providers.wire import encoded
from schemas.ids import AttemptId
from schemas.jsons import JsonObject, MalformedJson, parse_reply
from schemas.plan import Plan
from schemas.reply import Reply, Trouble

OnChunk: TypeAlias = Callable[[JsonObject], Awaitable[None]]

PATH = "/chat/completions"
CLIENT_REQUEST_ID = "X-Client-Request-Id"
DONE = b"[DONE]"
DRAIN_SECONDS = 0.25
"""How long the end of a stream is awaited after `[DONE]`, so that its connection can be used again."""

CONNECT_SHARE = 0.5
"""A call that spends more of its time than this on connecting is given up while it is certain that nothing was sent."""

_LOST = (APIConnectionError, httpx2.HTTPError, aiohttp.ClientError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """One provider account: its client, and its key to keep it out of messages."""

    name: str
    base_url: str
    openai: AsyncOpenAI
    key: str
    lookup: bool


async def call(
    account: Account,
    plan: Plan,
    attempt_id: AttemptId,
    settings: Settings,
    *,
    deadline_seconds: float,
    on_chunk: OnChunk | None,
) -> Reply | Trouble:
    """Make the call. Never takes longer than `deadline_seconds`, but for what a listener does when it is cancelled."""
    total_seconds = min(settings.total_timeout_seconds, deadline_seconds)
    patience = Patience(
        first_byte_seconds=settings.first_byte_timeout_seconds,
        between_chunks_seconds=settings.between_chunks_timeout_seconds,
        total_seconds=total_seconds,
    )
    exchange = Exchange(plan, account.key, patience)
    connect_seconds = min(settings.connect_timeout_seconds, total_seconds * CONNECT_SHARE)
    try:
        async with patience:
            return await _converse(account, exchange, attempt_id, connect_seconds, on_chunk)
    except APIStatusError as error:
        return exchange.refused(error, _headers(error.response))
    except _LOST as error:
        return exchange.streamed() if exchange.is_whole else exchange.failed(error)
    except TimeoutError:
        if not patience.expired:
            raise
        return exchange.streamed() if exchange.is_whole else exchange.broken(patience.reason)


async def _converse(
    account: Account, exchange: Exchange, attempt_id: AttemptId, connect_seconds: float, on_chunk: OnChunk | None
) -> Reply | Trouble:
    asked = exchange.plan.body
    streams = on_chunk is not None or asked.get("stream") is True
    body = streaming(asked) if streams else asked
    async with _posted(account, encoded(body), attempt_id, connect_seconds) as response:
        exchange.answered(response.status_code, _headers(response))
        exchange.patience.for_next_chunk()
        listener = None if on_chunk is None else _Listener(on_chunk, wants_usage=asks_for_usage(asked))
        if streams and "event-stream" in response.headers.get("content-type", ""):
            return await _listen(exchange, response, listener)
        raw = await _read(exchange, response)
        with synchronous_step():
            answer = exchange.replied(_parsed(raw))
        if listener is not None and isinstance(answer, Reply):
            exchange.patience.for_listener()
            await listener.hear(as_chunk(answer.body))
        return answer


@asynccontextmanager
async def _posted(
    account: Account, raw: bytes, attempt_id: AttemptId, connect_seconds: float
) -> AsyncIterator[httpx2.Response]:
    response: Any = await account.openai.post(
        PATH,
        content=raw,
        cast_to=httpx2.Response,
        stream=True,
        stream_cls=AsyncStream[object],
        options={
            "headers": {CLIENT_REQUEST_ID: attempt_id},
            "timeout": httpx2.Timeout(connect=connect_seconds, pool=connect_seconds, read=None, write=None),
        },
    )
    try:
        yield response
    finally:
        await response.aclose()


async def _read(exchange: Exchange, response: httpx2.Response) -> bytes:
    parts: list[bytes] = []
    async with aclosing(_parts(response)) as incoming:
        async for part in incoming:
            exchange.patience.for_next_chunk()
            parts.append(part)
    return b"".join(parts)


class _Listener:
    """Hands chunks on as the caller asked for them: without the usage that only we asked for."""

    def __init__(self, on_chunk: OnChunk, *, wants_usage: bool) -> None:
        self._on_chunk = on_chunk
        self._wants_usage = wants_usage

    async def hear(self, chunk: JsonObject) -> None:
        if not self._wants_usage and "usage" in chunk:
            if not chunk.get("choices"):
                return
            chunk = {name: value for name, value in chunk.items() if name != "usage"}
        await self._on_chunk(chunk)


async def _listen(exchange: Exchange, response: httpx2.Response, listener: _Listener | None) -> Reply | Trouble:
    exchange.stream = Accumulator()
    async with aclosing(_events(exchange, response)) as events:
        async for event in events:
            if exchange.done:
                continue
            if event.startswith(DONE):
                exchange.done = True
                exchange.patience.for_the_rest(DRAIN_SECONDS)
                continue
            if trouble := await _take(exchange, exchange.stream, event, listener):
                return trouble
    with synchronous_step():
        return exchange.streamed()


async def _take(exchange: Exchange, stream: Accumulator, event: bytes, listener: _Listener | None) -> Trouble | None:
    with synchronous_step():
        chunk = _parsed(event)
        if isinstance(chunk, dict) and chunk.get("error"):
            return exchange.broken_by(chunk)
        try:
            stream.add(chunk)
        except MalformedChunkError:
            return exchange.broken("The stream carries what is no chunk of a chat completion.")
    if listener is not None:
        exchange.patience.for_listener()
        await listener.hear(chunk)
        exchange.patience.for_next_chunk()
    return None


async def _events(exchange: Exchange, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    decoder = EventDecoder()
    async with aclosing(_parts(response)) as incoming:
        async for part in incoming:
            if not exchange.done:
                exchange.patience.for_next_chunk()
            for event in decoder.feed(part):
                yield event
    for event in decoder.finish():
        yield event


async def _parts(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    async for part in response.aiter_bytes():
        yield part


def _parsed(raw: bytes) -> Any:  # noqa: ANN401 - unparsed
    try:
        return parse_reply(raw)
    except MalformedJson:
        return None


def _headers(response: httpx2.Response) -> dict[str, str]:
    """All headers by lower-case name, read once: each look-up in the SDK's own structure walks the whole list."""
    return {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in response.headers.raw}
