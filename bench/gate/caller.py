"""A minimal HTTP client for a provider, because the benchmark shares its cores with what it measures."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.errors import PenstockError

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers by lower-case names, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Caller:
    """Keeps connections open and uses each for one call at a time."""

    def __init__(self, host: str, port: int, *, path: str = "/v1/chat/completions", key: str = "bench") -> None:
        self._host, self._port = host, port
        said = f"host: {host}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        self._head = f"POST {path} HTTP/1.1\r\n{said}"
        self._free: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()

    async def post(self, body: bytes) -> Answer:
        """Make one call. Raises OSError and PenstockError where the provider does not answer in valid HTTP."""
        reader, writer = self._kept() or await asyncio.open_connection(self._host, self._port)
        writer.write(f"{self._head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = await _read(reader)
        self._free.append((reader, writer))
        return answer

    def _kept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Return a free connection that the server has not closed, as servers do with idle ones."""
        while self._free:
            reader, writer = self._free.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None

    async def aclose(self) -> None:
        """Close all connections."""
        for _, writer in self._free:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in self._free), return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Answer:
    try:
        head, *lines = (await reader.readuntil(_HEAD_END)).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers["content-length"]))
    except (asyncio.IncompleteReadError, KeyError, ValueError) as error:
        raise PenstockError("the benchmark's provider did not answer") from error
    return Answer(int(head.split(" ", 2)[1]), headers, body)
