"""Queues the events of one stream, bounded by bytes."""

import asyncio
from collections import deque

from api.openai.events import event
from schemas.jsons import JsonObject

MAX_WAITING_BYTES = 128_000
"""Seconds of a fast model; 70 MB for 550 streams."""


class WaitingEvents:
    """A queue of events between a call and its client."""

    def __init__(self, most_bytes: int = MAX_WAITING_BYTES) -> None:
        self._most_bytes = most_bytes
        self._events: deque[bytes] = deque()
        self._bytes = 0
        self._closed = False
        self._arrived = asyncio.Event()
        self._left = asyncio.Event()

    async def put(self, chunk: JsonObject) -> None:
        """Add a chunk, waiting while the queue is full, or non-empty for an oversized chunk."""
        data = event(chunk)
        while self._bytes and self._bytes + len(data) > self._most_bytes:
            self._left.clear()
            await self._left.wait()
        self._events.append(data)
        self._bytes += len(data)
        self._arrived.set()

    async def get(self) -> bytes | None:
        """Return the next event; None after the last."""
        while not self._events:
            if self._closed:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        data = self._events.popleft()
        self._bytes -= len(data)
        self._left.set()
        return data

    def close(self) -> None:
        """Mark the end of the events."""
        self._closed = True
        self._arrived.set()
