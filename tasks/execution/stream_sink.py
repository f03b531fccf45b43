"""Passes the chunks of a stream to its listener."""

from dataclasses import dataclass

from schemas.jsons import JsonObject
from tasks.execution.deps import OnChunk


@dataclass
class StreamSink:
    """Receives a stream, and remembers that chunks were received."""

    on_chunk: OnChunk | None
    has_received: bool = False

    @property
    def callback(self) -> OnChunk | None:
        """Return the chunks' receiver; None when the call is not streamed."""
        return self._receive if self.on_chunk is not None else None

    async def _receive(self, chunk: JsonObject) -> None:
        assert self.on_chunk is not None  # noqa: S101 - only reached through `callback`
        self.has_received = True
        await self.on_chunk(chunk)
