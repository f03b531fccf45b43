"""A provider that only bills: in a process of its own, so that its books outlive every process that calls it.

One connection, one line asked, one JSON line answered. It decides the cost of a call by itself.
Invariant: what is billed stays billed, whoever dies before hearing of it.
"""

import asyncio
import json
import random
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from schemas.ids import AttemptId
from schemas.money import NanoUsd

REFUSED, SILENT = 0.03, 0.04
"""How many calls are refused, unbilled; and how many are billed and answered by nothing but a broken connection."""

CUT = object()

LONGEST_SECONDS = 0.15
"""Each half of a call: before the bill is written and after it."""


@dataclass
class Till:
    """The bills by attempt, with the user that each was for."""

    chance: random.Random
    bills: dict[str, tuple[str, int]] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one question; who has died meanwhile is not heard of."""
        with suppress(ConnectionError):
            line = await reader.readline()
            answer = await self._answer(*line.decode().split())
            if answer is not CUT:
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def _answer(self, verb: str = "", attempt_id: str = "", user: str = "", most: str = "0") -> Any:  # noqa: ANN401 - JSON
        match verb:
            case "call":
                return await self._call(attempt_id, user, int(most))
            case "look":
                return self.bills.get(attempt_id, (user, None))[1]
            case "bills":
                return self.bills
            case _:
                return CUT

    async def _call(self, attempt_id: str, user: str, most: int) -> object:
        fate = self.chance.random()
        await asyncio.sleep(self.chance.uniform(0, LONGEST_SECONDS))
        if fate < REFUSED:
            return -1
        self.bills[attempt_id] = (user, self.chance.randint(most * 9 // 10, most))
        await asyncio.sleep(self.chance.uniform(0, LONGEST_SECONDS))
        return CUT if fate < REFUSED + SILENT else self.bills[attempt_id][1]


def keep_till(listening: socket.socket, seed: int, seconds: float) -> None:
    """The process: serve for so long, or until it is killed."""

    async def serve() -> None:
        till = Till(random.Random(seed))  # noqa: S311 - a trial can be repeated
        async with await asyncio.start_server(till.serve, sock=listening), asyncio.timeout(seconds):
            await asyncio.Event().wait()

    asyncio.run(serve())


async def asked(port: int, *words: object) -> Any:  # noqa: ANN401 - parsed JSON
    """One question over a connection of its own. Raises ConnectionError where it is cut instead of answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    try:
        writer.write(" ".join(map(str, words)).encode() + b"\n")
        line = await reader.readline()
    finally:
        writer.close()
    if not line:
        raise ConnectionResetError
    return json.loads(line)


def bills_of(port: int) -> dict[AttemptId, tuple[str, NanoUsd]]:
    """All that was billed: for which user, and how much."""
    found = asyncio.run(asked(port, "bills"))
    return {AttemptId(attempt_id): (user, NanoUsd(cost)) for attempt_id, (user, cost) in found.items()}
