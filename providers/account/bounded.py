"""Caps the decompressed size of every answer, so that no provider fills the memory.

The cap covers streams, look-ups and error bodies. An unfinished answer closes its connection.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus
from typing import Any

import httpx2
from openai import DefaultAioHttpClient

from providers.chat.streaming import TOO_LARGE

MAX_ERROR_BYTES = 64_000
"""Enough for a sentence and its figures."""

STREAM_FACTOR = 8
"""Factor for streams, because an event takes about 300 bytes per token; `providers.chat.streaming` caps what is
kept."""

SLICE_BYTES = 64_000
"""After so many bytes the event loop serves others, because buffered data arrives without a pause."""


class UnreadableReplyError(httpx2.HTTPError):
    """The answer exceeds a limit on what is read."""


class BoundedResponse(httpx2.Response):
    """A response read up to a cap."""

    most_bytes = 0

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the decompressed body; cuts an error's. Raises UnreadableReplyError."""
        failed = self.status_code >= HTTPStatus.MULTIPLE_CHOICES
        most = MAX_ERROR_BYTES if failed else self.most_bytes * (STREAM_FACTOR if is_stream(self) else 1)
        seen = since_pause = 0
        async with aclosing(super().aiter_bytes(chunk_size)) as parts:
            async for part in parts:
                seen += len(part)
                if seen > most:
                    if failed:
                        return
                    raise UnreadableReplyError(TOO_LARGE)
                for start in range(0, len(part), SLICE_BYTES):
                    piece = part[start : start + SLICE_BYTES]
                    since_pause += len(piece)
                    if since_pause >= SLICE_BYTES:
                        since_pause = 0
                        await asyncio.sleep(0)
                    yield piece


def is_stream(response: httpx2.Response) -> bool:
    """Whether the answer is an event stream."""
    return "event-stream" in response.headers.get("content-type", "")


class BoundedClient(DefaultAioHttpClient):
    """The SDK's client with bounded responses."""

    def __init__(self, *, max_reply_bytes: int, **options: Any) -> None:  # noqa: ANN401 - the SDK's own
        super().__init__(**options)
        self._most_bytes = max_reply_bytes

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:  # noqa: ANN401 - options as they come
        """Send a request and return a bounded response."""
        answered = await super().send(request, stream=True, **options)
        response = BoundedResponse(
            answered.status_code,
            headers=answered.headers,
            stream=answered.stream,
            request=request,
            extensions=answered.extensions,
            history=answered.history,
        )
        response.most_bytes = self._most_bytes
        if not stream:
            try:
                await response.aread()
            finally:
                await response.aclose()
        return response
