"""A server of a few lines that says what it is told to, for answers that no honest provider gives."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

CLOSE = b""
"""Said instead of an answer: the connection is closed."""


@asynccontextmanager
async def canned_server(answers: Sequence[bytes]) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answer the requests in order of their arrival; yields the base URL and the requests that came."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                requests.append(head + await reader.readexactly(int(length.split(b":")[1])))
                answer = answers[len(requests) - 1]
                writer.write(answer)
                await writer.drain()
                if answer == CLOSE or b"connection: close" in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has hung up, as it may
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", requests
    finally:
        server.close()


def answer(status: str, body: bytes, *headers: str, content_type: str = "application/json") -> bytes:
    """One HTTP answer with its length."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {content_type}", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def event_stream(*events: str) -> bytes:
    """One HTTP answer that is a stream of events, and then ends."""
    body = "".join(f"data: {event}\n\n" for event in events).encode()
    return answer("200 OK", body, "connection: close", content_type="text/event-stream")
