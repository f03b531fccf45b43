"""Connections that speak HTTP badly: silent ones, halves of requests, readers that do not read, one-byte chunks."""

import resource
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

CONNECT_SECONDS = 10.0
SMALL_BUFFER_BYTES = 4_096
CHUNKED_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
ONE_BYTE_CHUNK = b"1\r\nx\r\n"


def allow_many_descriptors() -> None:
    """Raise the soft limit of this process to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def connections(port: int, number: int, *sayings: bytes) -> Iterator[Sequence[socket.socket]]:
    """Open so many; each says one of the sayings, in turn, and nothing more. One that is refused is left out."""
    with ExitStack() as ends:
        opened = []
        for count in range(number):
            try:
                connection = socket.create_connection(("127.0.0.1", port), timeout=CONNECT_SECONDS)
            except OSError:
                continue
            ends.callback(connection.close)
            connection.settimeout(CONNECT_SECONDS)
            try:
                connection.sendall(sayings[count % len(sayings)])
            except OSError:
                continue
            opened.append(connection)
        yield opened


def unread(port: int, request: bytes) -> socket.socket:
    """Send a request whose answer is never read; the kernel holds little of it for us."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
    connection.settimeout(CONNECT_SECONDS)
    connection.connect(("127.0.0.1", port))
    connection.sendall(request)
    return connection


def local_ports(sockets: Iterable[socket.socket]) -> set[int]:
    """The ports on our side."""
    return {int(one.getsockname()[1]) for one in sockets}


def http_request(path: str, key: str, body: bytes, *, announced: int | None = None) -> bytes:
    """The bytes of a POST; `announced` is a content-length that is not the body's."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
    length = len(body) if announced is None else announced
    return f"{head}content-length: {length}\r\n\r\n".encode() + body
