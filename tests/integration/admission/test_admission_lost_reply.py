"""A reply that is lost after the script ran: it ran once, nobody sends it again, and its money is not forgotten."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from admission.connect import Admission
from admission.gate import Gate
from admission.keys import Keys
from admission.ledger import Ledger
from admission.stamps import read_stamp
from admission.wire import Wire
from schemas.errors import RedisUnavailable
from schemas.money import NanoUsd
from tests.support.admission_fixture import Clock, a_counter, an_ask, granted

BUDGET = a_counter(1_000)
PATIENCE_SECONDS = 0.5


@dataclass
class Line:
    """A line to the server. Talks that are cut still carry what is said, but no answer; new talks hear everything."""

    host: str
    port: int
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _cut: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> None:
        self._cut |= self._open

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self.host, self.port)
        self._open.add(writer)
        await asyncio.gather(self._pass(there_reader, writer), self._pass(reader, there_writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while words := await reader.read(65_536):
            if writer not in self._cut:
                writer.write(words)
        writer.close()


@asynccontextmanager
async def a_line(redis_url: str) -> AsyncIterator[tuple[Line, str]]:
    address = urlsplit(redis_url)
    assert address.hostname is not None
    assert address.port is not None
    line = Line(address.hostname, address.port)
    server = await asyncio.start_server(line.carry, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield line, redis_url.replace(f":{address.port}/", f":{port}/")
    finally:
        server.close()


@pytest.fixture
async def through_a_line(redis_url: str) -> AsyncIterator[tuple[Line, Admission]]:
    clock = Clock()
    async with a_line(redis_url) as (line, url), Wire(url, timeout_seconds=PATIENCE_SECONDS) as wire:
        gate = Gate(wire, keys := Keys(f"t{uuid.uuid4().hex}"), clock_us=clock)
        admission = Admission(wire=wire, keys=keys, gate=gate, ledger=Ledger(wire, keys, gate))
        await admission.ledger.rebuild(1, [], [])
        granted(await gate.admit(an_ask("warm")))
        yield line, admission


async def test_it_ran_once_is_not_sent_again_and_stays_reserved(through_a_line: tuple[Line, Admission]) -> None:
    line, admission = through_a_line
    line.cut()

    with pytest.raises(RedisUnavailable):
        await admission.gate.admit(an_ask("lost", cost_nano_usd=NanoUsd(10), counters=(BUDGET,)))

    [balance] = await admission.gate.budgets([BUDGET])
    assert balance.reserved_nano_usd == 10
    stamps = await admission.wire.command("ZRANGE", admission.keys.in_flight(an_ask().target), 0, -1)
    assert len([stamp for stamp in stamps if read_stamp(stamp.decode()).attempt_id == "att_lost"]) == 1


async def test_the_next_ask_on_the_line_hears_its_own_answer(through_a_line: tuple[Line, Admission]) -> None:
    line, admission = through_a_line
    line.cut()
    with pytest.raises(RedisUnavailable):
        await admission.gate.admit(an_ask("lost"))

    assert granted(await admission.gate.admit(an_ask("next"))).stamp.startswith("att_next|")
