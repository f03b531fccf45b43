"""The HTTP server in this process, over a socket of its own."""

import asyncio
import socket

import pytest
from starlette.types import Receive, Scope, Send

from api.server.connection import Connection
from api.server.server import Server
from config.settings import Settings
from stack.home import free_port

ANSWER = b"HTTP/1.1 200 OK"


async def answer_nothing(scope: Scope, _receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})


def settings(port: int) -> Settings:
    return Settings(redis_url="redis://none", database_url="postgresql://none", port=port)  # type: ignore[arg-type]  # pydantic reads text


async def test_small_answers_leave_at_once() -> None:
    port = free_port() or pytest.fail("no port is free")
    server, connections = Server(answer_nothing, settings(port)), list[Connection]()
    server.config.load()
    make = server.config.http_protocol_class

    def recorded(**given: object) -> Connection:
        connections.append(make(**given))
        return connections[-1]

    server.config.http_protocol_class = recorded
    serving = asyncio.create_task(server.serve())
    reader, writer = await connected(port)
    writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert (await reader.readline()).startswith(ANSWER)

    accepted = connections[0].transport.get_extra_info("socket")
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    writer.close()
    server.should_exit = True
    await serving


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    for _ in range(200):
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)
    pytest.fail("the server did not listen")
