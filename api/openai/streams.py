"""Streams a completion. An error before the first chunk keeps its HTTP status.

A stream ends with `[DONE]` or an error event. A reply that was validated first or stored earlier is sent at the end. A
slow client delays its own call; one that reads nothing loses its connection at the write time-out.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api.errors import BUG, error_object, reply_of
from api.openai.events import DONE, KEEP_ALIVE, chunks_of, event
from api.openai.waiting_events import WaitingEvents
from api.presence import ClientGone, cancel_all, while_present
from schemas.accepted import JobResult
from schemas.errors import PenstockError
from tasks.execution.deps import OnChunk

KEEP_ALIVE_SECONDS = 15.0
"""Proxies close a silent connection after a minute."""

Complete: TypeAlias = Callable[[OnChunk | None], Awaitable[JobResult]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Telling:
    """How to stream. `live` sends chunks as they come, otherwise after validation."""

    live: bool
    include_usage: bool = False
    keep_alive_seconds: float = KEEP_ALIVE_SECONDS


class EventStream(Response):
    """Runs a completion and sends it as events.

    `about` returns headers for its result, or for None while it still runs.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        complete: Complete,
        telling: Telling,
        *,
        about: Callable[[JobResult | None], Mapping[str, str]],
        on_gone: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._complete = complete
        self._telling = telling
        self._about = about
        self._on_gone = on_gone
        self._result: JobResult | None = None
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI gives three
        """Send the stream. Raises only before the first event, or for a bug."""
        try:
            await while_present(receive, self._send_all(send))
        except ClientGone:
            await self._on_gone()
            if not self._started:
                raise

    async def _send_all(self, send: Send) -> None:
        async with aclosing(told(self._ending_noted, self._telling)) as events:
            async for data in events:
                if not self._started:
                    await send(self._start())
                    self._started = True
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _ending_noted(self, on_chunk: OnChunk | None) -> JobResult:
        self._result = await self._complete(on_chunk)
        return self._result

    def _start(self) -> Message:
        self.headers.update(self._about(self._result))
        return {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}


async def told(complete: Complete, telling: Telling) -> AsyncGenerator[bytes, None]:
    """Yield the events of one completion. Raises PenstockError only before the first."""
    waiting = WaitingEvents()
    sent = False
    async with _running(complete, waiting, telling) as run:
        async for data in _arriving(waiting, telling.keep_alive_seconds):
            sent = True
            yield data
        try:
            for data in await _ending(run, telling, sent=sent):
                yield data
        except Exception:  # a bug: the client gets an error event, and the server logs the traceback
            if sent:
                yield event(BUG)
            raise


async def _arriving(waiting: WaitingEvents, keep_alive_seconds: float) -> AsyncIterator[bytes]:
    """Yield chunks, and heartbeats after the first chunk."""
    patience_seconds: float | None = None
    while True:
        try:
            async with asyncio.timeout(patience_seconds):
                data = await waiting.get()
        except TimeoutError:
            yield KEEP_ALIVE
            continue
        if data is None:
            return
        patience_seconds = keep_alive_seconds
        yield data


async def _ending(run: "asyncio.Task[JobResult]", telling: Telling, *, sent: bool) -> Iterable[bytes]:
    try:
        reply = reply_of(await run)
    except PenstockError as error:
        if not sent:
            raise
        return [event(error_object(error))]
    events = () if sent else map(event, chunks_of(reply, include_usage=telling.include_usage))
    return chain(events, (DONE,))


@asynccontextmanager
async def _running(
    complete: Complete, waiting: WaitingEvents, telling: Telling
) -> AsyncIterator["asyncio.Task[JobResult]"]:
    async def run() -> JobResult:
        try:
            return await complete(waiting.put if telling.live else None)
        finally:
            waiting.close()

    task = asyncio.create_task(run())
    try:
        yield task
    finally:
        await cancel_all(task)
