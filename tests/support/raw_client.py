"""A client of bare sockets, for what no HTTP library sends: halves of requests, silence, answers that nobody reads."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_SECONDS = 15.0


@contextmanager
def connected(port: int, *, receive_buffer_bytes: int | None = None) -> Iterator[socket.socket]:
    """A connection to this port of this machine; a small buffer lets the server notice at once that nobody reads."""
    with socket.socket() as client:
        if receive_buffer_bytes is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        client.settimeout(PATIENCE_SECONDS)
        client.connect(("127.0.0.1", port))
        yield client


def request(method: str, path: str, *headers: str, key: str | None = None) -> bytes:
    """The head of a request."""
    lines = [f"{method} {path} HTTP/1.1", "host: penstock", *headers]
    lines += [] if key is None else [f"authorization: Bearer {key}"]
    return "\r\n".join([*lines, "", ""]).encode()


def until_closed(client: socket.socket) -> bytes:
    """Everything that comes until the server closes the connection; fails where it does not."""
    came = bytearray()
    while part := _part(client):
        came += part
    return bytes(came)


def answer_head(client: socket.socket) -> bytes:
    """The head of the next answer."""
    came = b""
    while b"\r\n\r\n" not in came:
        part = client.recv(1)
        assert part, came
        came += part
    return came


def _part(client: socket.socket) -> bytes:
    try:
        return client.recv(65_536)
    except ConnectionError:
        return b""
