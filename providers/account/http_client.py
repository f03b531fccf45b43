"""Makes one call to one account, whole or streamed, without retries and redirects.

Failures are returned; bugs and cancellation raise. The SDK's low-level `post` builds no reply model, which halves the
cost of a call.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import aiohttp
import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, AsyncStream

from config.marks import synchronous_step
from config.settings import Settings
from providers.account.bounded import UnreadableReplyError, is_stream
from providers.account.call_state import Exchange
from providers.account.large_replies import LargeReplies, LargeReplyPermit
from providers.account.sse import EventDecoder, EventTooLargeError
from providers.account.timeouts import Patience
from providers.chat.request_body import asks_for_usage, streaming
from providers.chat.streaming import Accumulator, MalformedChunkError, StreamTooLargeError, as_chunk
from schemas.bounds import fits
from schemas.ids import AttemptId
from schemas.jsons import JsonBeyondBounds, JsonObject, MalformedJson, dumps, parse_reply
from schemas.plan import Plan
from schemas.reply import Reply, Trouble

OnChunk: TypeAlias = Callable[[JsonObject], Awaitable[None]]

PATH = "chat/completions"
"""Path below the base URL, which ends with a slash."""
CLIENT_REQUEST_ID = "X-Client-Request-Id"
DONE = b"[DONE]"
DRAIN_SECONDS = 0.25
"""Wait for a stream's end after `[DONE]`, so that its connection can be reused."""

CONNECT_SHARE = 0.5
"""Largest share of a call's time for connecting; until then it is certain that nothing was sent."""

LARGE_REPLY_BYTES = 256_000
"""A larger answer needs a permit; text answers are smaller."""
LARGE_STREAM_BYTES = 2_000_000
"""A larger stream continues with a permit; text output is smaller."""
MAX_REPLY_VALUES = 1_000_000
"""JSON values of one answer: 5,500 tokens with 20 log probabilities each."""

_TOO_MUCH = (UnreadableReplyError, EventTooLargeError, StreamTooLargeError)
_LOST = (APIConnectionError, httpx2.HTTPError, aiohttp.ClientError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """One provider account; its key is redacted from messages."""

    name: str
    base_url: str
    openai: AsyncOpenAI
    key: str
    lookup: bool
    large_replies: LargeReplies


async def call(
    account: Account,
    plan: Plan,
    attempt_id: AttemptId,
    settings: Settings,
    *,
    deadline_seconds: float,
    on_chunk: OnChunk | None,
) -> Reply | Trouble:
    """Make the call within `deadline_seconds`, unless a listener delays its own cancellation."""
    patience = Patience(
        first_byte_seconds=settings.first_byte_timeout_seconds,
        between_chunks_seconds=settings.between_chunks_timeout_seconds,
        total_seconds=min(settings.total_timeout_seconds, deadline_seconds),
    )
    exchange = Exchange(plan, account.key, patience)
    try:
        async with patience.timer:
            return await _converse(account, exchange, attempt_id, settings, on_chunk)
    except APIStatusError as error:
        return exchange.refused(error, _headers(error.response))
    except _TOO_MUCH as error:
        return exchange.streamed() if exchange.is_whole else exchange.unreadable(str(error))
    except _LOST as error:
        return exchange.streamed() if exchange.is_whole else exchange.failed(error)
    except TimeoutError:
        if not patience.timer.expired():
            raise
        return exchange.streamed() if exchange.is_whole else exchange.broken(patience.reason)


async def _converse(
    account: Account, exchange: Exchange, attempt_id: AttemptId, settings: Settings, on_chunk: OnChunk | None
) -> Reply | Trouble:
    request = exchange.plan.body
    streams = on_chunk is not None or request.get("stream") is True
    body = streaming(request) if streams else request
    connect_seconds = min(settings.connect_timeout_seconds, exchange.patience.total_seconds * CONNECT_SHARE)
    async with _posted(account, dumps(body), attempt_id, connect_seconds) as response:
        exchange.answered(response.status_code, _headers(response))
        exchange.patience.for_next_chunk()
        if on_chunk is not None and not asks_for_usage(request):
            on_chunk = partial(_without_usage, on_chunk)
        permit = LargeReplyPermit(account.large_replies, exchange.plan.tenant_id, exchange.patience)
        if streams and is_stream(response):
            stream = Accumulator(most_bytes=settings.max_reply_bytes, most_values=MAX_REPLY_VALUES)
            async with permit:
                return await _listen(exchange, stream, response, on_chunk, permit)
        async with permit:
            body = await _read(exchange, response, permit)
        with synchronous_step():
            answer = exchange.replied(body)
        if on_chunk is not None and isinstance(answer, Reply):
            exchange.patience.for_listener()
            await on_chunk(as_chunk(answer.body))
        return answer


@asynccontextmanager
async def _posted(
    account: Account, raw: bytes, attempt_id: AttemptId, connect_seconds: float
) -> AsyncIterator[httpx2.Response]:
    response: Any = await account.openai.post(
        f"{account.openai.base_url}{PATH}",  # whole: the SDK is slow to join an address
        content=raw,
        cast_to=httpx2.Response,
        stream=True,
        stream_cls=AsyncStream[object],
        options={
            "headers": {CLIENT_REQUEST_ID: attempt_id},
            "idempotency_key": attempt_id,
            "max_retries": 0,
            "timeout": httpx2.Timeout(connect=connect_seconds, pool=connect_seconds, read=None, write=None),
        },
    )
    try:
        yield response
    finally:
        await response.aclose()


async def _read(exchange: Exchange, response: httpx2.Response, permit: LargeReplyPermit) -> Any:  # noqa: ANN401 - unparsed
    raw = bytearray()
    async with aclosing(response.aiter_bytes()) as parts:
        async for part in parts:
            exchange.patience.for_next_chunk()
            if len(raw) + len(part) > LARGE_REPLY_BYTES:
                await permit.take()
            raw += part
        return await _parsed_apart(raw)


async def _without_usage(on_chunk: OnChunk, chunk: JsonObject) -> None:
    """Leaves out a chunk that holds nothing else."""
    if "usage" not in chunk:
        await on_chunk(chunk)
    elif chunk.get("choices"):
        await on_chunk({name: value for name, value in chunk.items() if name != "usage"})


async def _listen(
    exchange: Exchange,
    stream: Accumulator,
    response: httpx2.Response,
    on_chunk: OnChunk | None,
    permit: LargeReplyPermit,
) -> Reply | Trouble:
    exchange.stream = stream
    async with aclosing(_events(exchange, stream, response, permit)) as events:
        async for event in events:
            if exchange.done:
                continue
            if event.startswith(DONE):
                exchange.done = True
                exchange.patience.for_the_rest(DRAIN_SECONDS)
                continue
            if trouble := await _take(exchange, stream, event, on_chunk):
                return trouble
    with synchronous_step():
        return exchange.streamed()


async def _take(exchange: Exchange, stream: Accumulator, event: bytes, on_chunk: OnChunk | None) -> Trouble | None:
    chunk = await _parsed_apart(event)
    with synchronous_step():
        if isinstance(chunk, dict) and chunk.get("error"):
            return exchange.broken_by(chunk)
        try:
            stream.add(chunk)
        except MalformedChunkError:
            return exchange.broken("The stream carries what is no chunk of a chat completion.")
    if on_chunk is not None:
        exchange.patience.for_listener()
        await on_chunk(chunk)
        exchange.patience.for_next_chunk()
    return None


async def _events(
    exchange: Exchange, stream: Accumulator, response: httpx2.Response, permit: LargeReplyPermit
) -> AsyncGenerator[bytes, None]:
    decoder = EventDecoder(stream.most_bytes)
    async with aclosing(response.aiter_bytes()) as incoming:
        async for part in incoming:
            if exchange.done:
                continue
            exchange.patience.for_next_chunk()
            if decoder.held_bytes + stream.kept_bytes > LARGE_STREAM_BYTES:
                await permit.take()
            for event in decoder.feed(part):
                yield event
    for event in decoder.finish():
        yield event


async def _parsed_apart(raw: bytes | bytearray) -> Any:  # noqa: ANN401 - unparsed
    """A thread parses large values, in steps of at most 40 ms of interpreter time."""
    return _parsed(raw) if len(raw) <= LARGE_REPLY_BYTES else await asyncio.to_thread(_parsed, raw)


def _parsed(raw: bytes | bytearray) -> Any:  # noqa: ANN401 - unparsed
    """Returns None if it is not JSON. Raises UnreadableReplyError beyond the bounds."""
    if not fits(bytes(raw), MAX_REPLY_VALUES):
        raise UnreadableReplyError(f"The answer holds more than {MAX_REPLY_VALUES} JSON values.")
    try:
        return parse_reply(raw)
    except JsonBeyondBounds as error:
        raise UnreadableReplyError(f"The answer is JSON that cannot be kept: {error}.") from None
    except MalformedJson:
        return None


def _headers(response: httpx2.Response) -> dict[str, str]:
    """Lower-case names; the SDK's mapping walks its list per look-up."""
    return {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in response.headers.raw}
