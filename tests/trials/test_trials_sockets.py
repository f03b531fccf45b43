"""Connections that say nothing, read nothing or come byte by byte, under 1,024 descriptors."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from simulator.scripted import directive
from tests.support.figures import Figures, percentile
from tests.support.raw_sockets import (
    CHUNKED_HEAD,
    ONE_BYTE_CHUNK,
    allow_many_descriptors,
    connections,
    http_request,
    local_ports,
    unread,
)
from tests.support.trial_callers import NO_ANSWER, Callers
from tests.support.trial_stack import REPLY_MARKER, Memory, TrialStack, eventually, prompt
from tests.trials.conftest import assert_logs_hold_no_content

DESCRIPTORS = 1_024
SILENT = 1_200
GREEDY_CALLS = 600
PROBES, MOST_PROBE_MS = 200, 100.0
SILENT_SECONDS = 90.0
"""Every time-out of a connection, head, body or write is shorter."""

UNREAD_STREAMS, STREAM_BYTES = 20, 12_000_000
"""More than the kernel keeps for a connection (4 MB by default), less than a provider may answer."""

MOST_MIB = 256.0
DRIPPERS, DRIP_CHUNKS = 4, 400_000
ENV = {"PENSTOCK_SLOTS": "100", "PENSTOCK_RESERVED_CRITICAL_SLOTS": "10", "PENSTOCK_SLICE_SIZE": "16"}
"""What so few descriptors have room for."""


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialStack]:
    allow_many_descriptors()
    home = tmp_path_factory.mktemp("sockets") / "home"
    with TrialStack.started(home, env=ENV, descriptors=DESCRIPTORS) as running:
        before = running.log_sizes()
        yield running
        assert_logs_hold_no_content(running, since=before)


@pytest.mark.slow
async def test_silent_connections_are_closed_and_delay_nobody(narrow: TrialStack, figures: Figures) -> None:
    half_head = b"POST /v1/chat/completions HTTP/1.1\r\nhost:"
    half_body = http_request("/v1/chat/completions", narrow.keys["a"], b"{", announced=100)
    async with Callers.of(narrow, "b") as b:
        with connections(narrow.port, SILENT, b"", half_head, half_body) as silent:
            ports = local_ports(silent)
            probe_ms = await _probe_ms(b)
            beside = await b.mixed(calls=10, jobs=10)
            closed = await eventually(lambda: _are_closed(narrow, ports), within_seconds=SILENT_SECONDS)
            left = narrow.still_open(ports)

    figures.note(f"{SILENT} silent connections", "still open", left, "0")
    figures.note(f"{SILENT} silent connections", "/healthz p99, ms", probe_ms, f"<= {MOST_PROBE_MS}")
    figures.note(f"{SILENT} silent connections", "bystanders failed", beside.failures, "0")
    assert closed, left
    assert beside.failures == 0, beside.complaint()
    assert probe_ms <= MOST_PROBE_MS


@pytest.mark.slow
async def test_more_calls_than_descriptors_lose_no_job(narrow: TrialStack, figures: Figures) -> None:
    async with Callers.of(narrow, "a") as a, Callers.of(narrow, "b") as b:
        greedy = asyncio.gather(*(a.call({"delay_ms": 3_000}) for _ in range(GREEDY_CALLS)))
        beside = await b.mixed(calls=5, jobs=20)
        answers = await greedy

    lost = narrow.stack.rows("SELECT count(*) AS jobs FROM jobs WHERE dead_reason = 'caller_lost'")[0]["jobs"]
    told = [*answers, *beside.calls, *beside.accepted]
    unheard = sum(answer.status in {NO_ANSWER, 500} for answer in told)  # a 503 says when to come again
    figures.note(f"{GREEDY_CALLS} calls under {DESCRIPTORS} descriptors", "jobs lost", lost, "0")
    figures.note(f"{GREEDY_CALLS} calls under {DESCRIPTORS} descriptors", "calls without an answer", unheard, "0")
    assert (lost, unheard) == (0, 0)
    assert all(job.state == "completed" for job in beside.jobs), beside.complaint()


@pytest.mark.slow
async def test_unread_streams_are_ended_and_take_bounded_memory(narrow: TrialStack, figures: Figures) -> None:
    text = [[REPLY_MARKER, 1], ["x", STREAM_BYTES]]
    body = {"model": "small", "messages": prompt(directive(content=text)), "stream": True, "max_tokens": STREAM_BYTES}
    request = http_request("/v1/chat/completions", narrow.keys["a"], json.dumps(body).encode())
    async with Callers.of(narrow, "b") as b:
        with ExitStack() as ends, Memory(pids={"web": narrow.pid("web")}) as memory:
            streams = [ends.enter_context(unread(narrow.port, request)) for _ in range(UNREAD_STREAMS)]
            ports = local_ports(streams)
            beside = await b.mixed(calls=10, jobs=10)
            closed = await eventually(lambda: _are_closed(narrow, ports), within_seconds=SILENT_SECONDS)
            left = narrow.still_open(ports)
            at_rest = await eventually(lambda: _nothing_runs(narrow), within_seconds=SILENT_SECONDS)

    figures.note(f"{UNREAD_STREAMS} unread streams", "still open", left, "0")
    mib = memory.above_idle_mib("web")
    figures.note(f"{UNREAD_STREAMS} unread streams", "web above idle, MiB", mib, f"<= {MOST_MIB}")
    assert closed, left
    assert at_rest
    assert beside.failures == 0, beside.complaint()
    assert mib <= MOST_MIB


@pytest.mark.slow
async def test_chunks_of_one_byte_without_a_key_delay_nobody(narrow: TrialStack, figures: Figures) -> None:
    async with Callers.of(narrow, "b") as b:
        with connections(narrow.port, DRIPPERS, CHUNKED_HEAD) as dripping:
            threads = [threading.Thread(target=_drip, args=(one,), daemon=True) for one in dripping]
            for thread in threads:
                thread.start()
            probe_ms = await _probe_ms(b)
        for thread in threads:
            await asyncio.to_thread(thread.join)

    figures.note(f"{DRIPPERS} connections of one-byte chunks", "/healthz p99, ms", probe_ms, f"<= {MOST_PROBE_MS}")
    assert probe_ms <= MOST_PROBE_MS


def _drip(connection: socket.socket) -> None:
    with suppress(OSError):  # refused, cut off, or too slow for us: all are answers
        connection.sendall(ONE_BYTE_CHUNK * DRIP_CHUNKS)


async def _probe_ms(callers: Callers) -> float:
    answers = [await callers.ask("GET", "/healthz") for _ in range(PROBES)]
    assert all(answer.is_ok for answer in answers), [answer.status for answer in answers if not answer.is_ok]
    return percentile([answer.seconds for answer in answers], 0.99) * 1000


async def _are_closed(narrow: TrialStack, ports: set[int]) -> bool:
    return narrow.still_open(ports) == 0


async def _nothing_runs(narrow: TrialStack) -> bool:
    query = "SELECT count(*) AS jobs FROM jobs WHERE state = 'running'"
    return bool((await asyncio.to_thread(narrow.stack.rows, query))[0]["jobs"] == 0)
