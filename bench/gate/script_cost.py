"""Compares a decision of the gate with a script that does nothing, on one core of a server of its own.

Run by `python -m bench.gate.script_cost`. Prints ratios of one run and asserts nothing. The server, the client and
other work of the machine share its cores, so only the ratios are meaningful. In-server time is the server's own count
per call, in the least disturbed round.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice, repeat
from pathlib import Path
from statistics import median

from redis.asyncio import Redis

from admission.gate import Gate
from admission.keys import Keys
from admission.limits import TargetLimits
from admission.scripts import Script
from admission.wire import Wire, Word
from schemas.admission import Ask, BudgetCounter, Grant, SettleKind, Settlement
from schemas.ids import AttemptId
from schemas.job import Target
from schemas.lanes import Lane
from schemas.money import NanoUsd
from stack.home import Home
from stack.valkey import Valkey

CONNECTIONS = 8
CALLS_PER_ROUND = 2_000
ROUNDS = 5
DEPTHS = (1, 16)
NOTHING = Script("nothing", "return 1")
TARGET = Target(account="bench", model="m")
NO_LIMIT_IN_SIGHT = 600_000_000_000
BUDGETS = tuple(
    BudgetCounter(scope=scope, window="2026-11@UTC", limit_nano_usd=NanoUsd(10**18))
    for scope in ("global", "tenant:a", "user:b", "batch:c")
)
Command = tuple[Word, ...]


class Recording(Wire):
    """Records the command that the gate would send, so that both sides of a ratio are sent in the same way."""

    words: Command = ()

    async def run(self, script: Script, keys: object, args: object) -> tuple[int, int, bytes]:
        """Record the command and answer as if granted."""
        assert isinstance(keys, list)
        assert isinstance(args, list)
        self.words = ("EVALSHA", script.sha, len(keys), *keys, *args)
        return 1, 0, b"none"


@dataclass(frozen=True)
class Row:
    """One operation at one depth."""

    name: str
    depth: int
    per_second: float
    server_us: float


class Bench:
    """One server, and one bucket without an effective limit."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._recording = Recording(url)
        self._gate = Gate(self._recording, Keys("bench"))
        self._numbers = count(1)

    async def rows(self) -> list[Row]:
        """Measure everything. All operations of a depth take turns, so that none has the quieter minute."""
        async with Wire(self._url) as wire:
            await self._prepare(wire)
        found = []
        for depth in DEPTHS:
            operations = await self._operations()
            turns = [
                [await self._turn(depth, list(islice(words, CALLS_PER_ROUND))) for words in operations.values()]
                for _ in range(ROUNDS)
            ]
            for name, rounds in zip(operations, zip(*turns, strict=True), strict=True):
                per_second, server_us = zip(*rounds, strict=True)
                found.append(Row(name, depth, median(per_second), min(server_us)))
        await self._recording.aclose()
        return found

    async def _operations(self) -> dict[str, Iterator[Command]]:
        """Return by name the commands for all calls of one depth."""
        operations: dict[str, Iterator[Command]] = {"EVALSHA that does nothing": repeat(self._nothing)}
        for counters in ((), BUDGETS):
            operations[f"admit, {len(counters)} budgets"] = iter(await self._commands(counters))
            operations[f"settle, {len(counters)} budgets"] = iter(await self._settles(counters))
        return operations

    async def _prepare(self, wire: Wire) -> None:
        gate = Gate(wire, Keys("bench"))
        await wire.command("SET", Keys("bench").epoch, 1)
        limit = NO_LIMIT_IN_SIGHT
        await gate.configure(
            TargetLimits(
                target=TARGET,
                requests_per_minute=limit,
                tokens_per_minute=limit,
                requests_per_day=limit,
                tokens_per_day=limit,
                max_in_flight=10**9,
            ),
            1,
        )
        grant = await gate.admit(self._ask(BUDGETS))
        if isinstance(grant, Grant):
            await gate.settle(_posted(grant))
        self._nothing: Command = ("EVALSHA", NOTHING.sha, 0)
        await wire.run(NOTHING, [], [])

    def _ask(self, counters: tuple[BudgetCounter, ...]) -> Ask:
        return Ask(
            attempt_id=AttemptId(f"att_{next(self._numbers):032x}"),
            target=TARGET,
            lane=Lane.NORMAL,
            tokens=1_200,
            cost_nano_usd=NanoUsd(1_500_000),
            epoch=1,
            counters=counters,
        )

    async def _commands(self, counters: tuple[BudgetCounter, ...]) -> list[Command]:
        words = []
        for _ in range(ROUNDS * CALLS_PER_ROUND):
            await self._gate.admit(self._ask(counters))
            words.append(self._recording.words)
        return words

    async def _settles(self, counters: tuple[BudgetCounter, ...]) -> list[Command]:
        """Return settlements of real grants, because only a live stamp costs what a settlement costs."""
        async with Wire(self._url) as wire:
            gate = Gate(wire, Keys("bench"))
            asks = [self._ask(counters) for _ in range(ROUNDS * CALLS_PER_ROUND)]
            answers = await asyncio.gather(*map(gate.admit, asks))
        words = []
        for answer in answers:
            if isinstance(answer, Grant):
                await self._gate.settle(_posted(answer))
                words.append(self._recording.words)
        return words

    async def _turn(self, depth: int, words: list[Command]) -> tuple[float, float]:
        """Return calls per second, and the server's microseconds per call."""
        async with Redis.from_url(self._url, protocol=2) as admin:
            await admin.config_resetstat()
            per_second = await self._round(depth, words)
            stats = await admin.info("commandstats")
        return per_second, float(stats["cmdstat_evalsha"]["usec_per_call"])

    async def _round(self, depth: int, words: list[Command]) -> float:
        clients = [Redis.from_url(self._url, protocol=2, single_connection_client=True) for _ in range(CONNECTIONS)]
        for client in clients:
            await client.ping()
        shares = [words[number::CONNECTIONS] for number in range(CONNECTIONS)]
        started = time.perf_counter()
        await asyncio.gather(*(_send(client, share, depth) for client, share in zip(clients, shares, strict=True)))
        seconds = time.perf_counter() - started
        for client in clients:
            await client.aclose()
        return len(words) / seconds


async def _send(client: "Redis", words: list[Command], depth: int) -> None:
    for start in range(0, len(words), depth):
        async with client.pipeline(transaction=False) as pipe:
            for each in words[start : start + depth]:
                pipe.execute_command(*each)
            await pipe.execute()


def _posted(grant: Grant) -> Settlement:
    return Settlement(
        grant=grant, kind=SettleKind.POST, actual_tokens=grant.tokens - 200, actual_nano_usd=NanoUsd(1_000_000)
    )


def table(rows: list[Row]) -> str:
    """Return the table: each row beside the empty script of its depth."""
    empty = {row.depth: row.per_second for row in rows if row.name.startswith("EVALSHA")}
    lines = [f"{'operation':28} {'depth':>5} {'calls/s':>9} {'of empty':>9} {'server us':>10}"]
    for row in rows:
        ratio = row.per_second / empty[row.depth]
        lines.append(f"{row.name:28} {row.depth:5} {row.per_second:9.0f} {ratio:9.2f} {row.server_us:10.1f}")
    return "\n".join([*lines, *map(_four_counters, DEPTHS, [rows] * len(DEPTHS))])


def _four_counters(depth: int, rows: list[Row]) -> str:
    """Return what budgets add to a decision. The promise is at most twice the time of one without."""
    script_us = {row.name: row.server_us for row in rows if row.depth == depth}
    ratio = script_us[f"admit, {len(BUDGETS)} budgets"] / script_us["admit, 0 budgets"]
    return f"script time of admit with {len(BUDGETS)} counters, of that with none, depth {depth}: {ratio:.2f}x"


def main() -> None:
    """Start a server, measure, print."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        with home.locked(), Valkey(home).running() as server:
            sys.stdout.write(table(asyncio.run(Bench(server.url).rows())) + "\n")


if __name__ == "__main__":
    main()
