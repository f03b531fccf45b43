"""What the door does with connections that are silent, slow, tiny or many. Its stores are away, so it is alone."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx2
import pytest

from api.server.limits import FREE_PIECES, MAX_FRAMING_BYTES, MAX_HEADERS, SPARE_CONNECTIONS
from tests.integration.api.test_api_start import AWAY
from tests.support.own_process import WebProcess
from tests.support.raw_client import answer_head, connected, request, until_closed

KEY = "pk_admin"
SHORT_SECONDS = 1.0
FAR_SECONDS = 60.0
MOST = 6
LARGE_BYTES = 7_500_000
"""More than a connection's buffers hold, so that who sends it notices a server that does not read."""
TIMEOUTS = {
    "PENSTOCK_HEAD_TIMEOUT_SECONDS": str(SHORT_SECONDS),
    "PENSTOCK_BODY_TIMEOUT_SECONDS": str(SHORT_SECONDS),
    "PENSTOCK_IDLE_TIMEOUT_SECONDS": str(SHORT_SECONDS),
}
PATIENT = {
    "PENSTOCK_HEAD_TIMEOUT_SECONDS": str(FAR_SECONDS),
    "PENSTOCK_BODY_TIMEOUT_SECONDS": str(FAR_SECONDS),
    "PENSTOCK_MAX_CONNECTIONS": str(MOST),
    "PENSTOCK_MAX_BYTES_IN_FLIGHT": "1000000",
}


@pytest.fixture(scope="module")
def hasty() -> Iterator[WebProcess]:
    """A door with short time-outs."""
    with WebProcess(AWAY | TIMEOUTS) as api:
        api.until("/healthz", 200)
        yield api


@pytest.fixture(scope="module")
def narrow() -> Iterator[WebProcess]:
    """A door with long time-outs, few places and little memory."""
    with WebProcess(AWAY | PATIENT) as api:
        api.until("/healthz", 200)
        yield api


@contextmanager
def took_about(seconds: float) -> Iterator[None]:
    began_at = time.monotonic()
    yield
    assert seconds * 0.9 <= time.monotonic() - began_at < seconds + 5


def is_well(api: WebProcess) -> bool:
    return bool(api.until("/healthz", 200))


def test_a_connection_that_says_nothing_is_closed(hasty: WebProcess) -> None:
    with connected(hasty.port) as client, took_about(SHORT_SECONDS):
        assert until_closed(client) == b""


def test_a_head_that_drips_is_refused_in_its_time(hasty: WebProcess) -> None:
    with connected(hasty.port) as client, took_about(SHORT_SECONDS):
        client.settimeout(SHORT_SECONDS / 20)
        said = drip(client, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 1_000)

    assert said.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in said
    assert b"x-request-id: req_" in said


def test_a_body_that_stops_is_refused(hasty: WebProcess) -> None:
    with connected(hasty.port) as client, took_about(SHORT_SECONDS):
        client.sendall(request("POST", "/jobs", "content-length: 100", key=KEY) + b'{"model":')
        assert until_closed(client).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_drips_is_refused_although_it_never_stops(hasty: WebProcess) -> None:
    with connected(hasty.port) as client, took_about(SHORT_SECONDS):
        client.sendall(request("POST", "/jobs", "content-length: 100000", key=KEY))
        client.settimeout(SHORT_SECONDS / 20)
        assert drip(client, b" " * 1_000).startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_is_closed_and_one_that_is_used_is_not(hasty: WebProcess) -> None:
    with connected(hasty.port) as client:
        for _ in range(3):
            client.sendall(request("GET", "/healthz"))
            assert answer_head(client).startswith(b"HTTP/1.1 200 ")
            client.recv(100)
        with took_about(SHORT_SECONDS):
            assert until_closed(client) == b""


def test_line_ends_between_requests_do_not_keep_a_connection(hasty: WebProcess) -> None:
    with connected(hasty.port) as client:
        client.sendall(request("GET", "/healthz"))
        assert answer_head(client).startswith(b"HTTP/1.1 200 ")
        client.recv(100)
        client.settimeout(SHORT_SECONDS / 20)
        with took_about(SHORT_SECONDS):
            drip(client, b"\r\n" * 1_000)


@pytest.mark.parametrize("head", ["content-length: 200000", "transfer-encoding: chunked"])
def test_without_a_key_no_body_is_waited_for(narrow: WebProcess, head: str) -> None:
    with connected(narrow.port) as client:
        client.sendall(request("POST", "/v1/chat/completions", head, key=None))
        said = until_closed(client)

    assert said.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in said


def test_an_answer_before_the_body_reaches_a_client_that_still_sends(narrow: WebProcess) -> None:
    with connected(narrow.port) as client:
        client.sendall(request("POST", "/jobs", f"content-length: {LARGE_BYTES}", key=KEY) + b" " * LARGE_BYTES)

        assert until_closed(client).startswith(b"HTTP/1.1 413 ")
    assert is_well(narrow)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"1\r\n \r\n" * (FREE_PIECES + 10), b"400"),
        (b"1;" + b"x" * (MAX_FRAMING_BYTES * 2) + b"\r\n \r\n", b"431"),
        (b"20\r\n" + b" " * 32 + b"\r\n0\r\n" + b"a: b\r\n" * MAX_HEADERS + b"\r\n", b"431"),
    ],
)
def test_a_body_that_is_mostly_framing_is_refused(narrow: WebProcess, sent: bytes, status: bytes) -> None:
    with connected(narrow.port) as client:
        client.sendall(request("POST", "/jobs", "transfer-encoding: chunked", key=KEY))
        client.sendall(sent)

        assert until_closed(client).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (MAX_HEADERS + 1) + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * (MAX_FRAMING_BYTES * 3), b"431"),
        (b"GET /" + b"y" * (MAX_FRAMING_BYTES * 3), b"431"),
        (b"no request at all\r\n\r\n", b"400"),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"400"),
        (request("GET", "/v1/models", key=KEY) * 5_000, b"400"),
    ],
)
def test_heads_are_bounded(narrow: WebProcess, sent: bytes, status: bytes) -> None:
    with connected(narrow.port) as client:
        client.sendall(sent)

        assert until_closed(client).startswith(b"HTTP/1.1 " + status)
    assert is_well(narrow)


def test_more_silent_connections_than_places_keep_nobody_out(narrow: WebProcess) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connected(narrow.port)) for _ in range(3 * (MOST + SPARE_CONNECTIONS))]

        assert is_well(narrow)
        assert until_closed(silent[0]) == b""


def test_with_all_places_busy_probes_and_one_more_request_are_answered(narrow: WebProcess) -> None:
    with ExitStack() as stack:
        for _ in range(MOST):
            busy = stack.enter_context(connected(narrow.port))
            busy.sendall(request("POST", "/jobs", "content-length: 10", "expect: 100-continue", key=KEY))
            assert busy.recv(100).startswith(b"HTTP/1.1 100 ")
        answered = httpx2.get(f"{narrow.url}/v1/models", headers={"authorization": f"Bearer {KEY}"})

        assert answered.status_code == 200
        assert is_well(narrow)


def test_a_body_that_has_no_room_is_refused_before_it_comes(narrow: WebProcess) -> None:
    with connected(narrow.port) as client:
        client.sendall(request("POST", "/jobs", "content-length: 600000", key=KEY))

        assert until_closed(client).startswith(b"HTTP/1.1 503 ")


def test_bodies_beyond_the_budget_of_memory_are_told_to_come_again(narrow: WebProcess) -> None:
    key = {"authorization": f"Bearer {KEY}"}
    announced = httpx2.post(f"{narrow.url}/jobs", headers=key, content=b" " * 600_000)
    streamed = httpx2.post(f"{narrow.url}/jobs", headers=key, content=(b" " * 100_000 for _ in range(6)))
    values = httpx2.post(f"{narrow.url}/jobs", headers=key, content=b'{"a":[' + b"{}," * 10_000 + b"{}]}")
    small = httpx2.post(f"{narrow.url}/jobs", headers=key, content=b"[]")

    assert [answer.status_code for answer in (announced, streamed, values, small)] == [503, 503, 503, 400]
    assert announced.json()["error"]["code"] == "busy"


def drip(client: socket.socket, sent: bytes) -> bytes:
    """Send byte by byte, as slowly as the client waits for an answer, until there is one."""
    for position in range(len(sent)):
        try:
            client.send(sent[position : position + 1])
            return client.recv(65_536)
        except TimeoutError:
            continue
        except ConnectionError:
            return b""
    raise AssertionError("nobody answered")
