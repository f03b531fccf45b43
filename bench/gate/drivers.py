"""`python -m bench.gate.drivers SPEC`: runs light processes that admit, call and settle.

Each process has its own gate, connections and clock. Every waiter waits for one grant after another; calls run beside
it. Prints one JSON list: what each process measured.
"""

import asyncio
import contextlib
import gc
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import count
from multiprocessing.connection import Connection
from typing import Any, Protocol

import orjson

from admission.connect import Admission, connected
from admission.gate import Gate
from admission.local_gate import LocalGate
from admission.stamps import moment_of
from admission.state import ORIGIN_SECONDS
from admission.wire import Wire
from bench.gate.caller import Answer, Caller
from bench.gate.naive import FixedWindow, OwnBucket, Rate
from providers.account.headers import limits_of, retry_after_ms
from providers.account.rate_limit_errors import figures_of, limit_of
from schemas.admission import Ask, Grant, Penalty, Refusal, SettleKind, Settlement, Wait
from schemas.errors import PenstockError
from schemas.ids import AttemptId
from schemas.job import Target
from schemas.lanes import Lane
from schemas.money import ZERO

OK, TOO_MANY = 200, 429
MOST_CALLS = 128
"""Calls in flight per process: more than any limit here admits, and few enough to bound the naive limiters."""
PATIENCE_SECONDS = 3_600.0
"""All jobs wait in place here. Whether a worker does is outside the gate."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """The load of one lane in each process.

    Either `waiters` jobs always waiting, or `per_second` new ones a second, each of a size drawn from `tokens`.
    """

    lane: str
    waiters: int = 0
    per_second: float = 0.0
    tokens: tuple[int, ...] = (1_000,)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One run. `gate` is shared, own_bucket, fixed_window or no_lanes; `prompt_tokens` are part of every size."""

    gate: str
    redis_url: str
    namespace: str
    port: int
    model: str
    prompt_tokens: int
    processes: int
    requests_per_second: float
    tokens_per_second: float
    start_at: float
    seconds: float
    loads: tuple[Load, ...]


@dataclass
class Seen:
    """What one process measured: each call with its time of sending, and critical waits in microseconds."""

    calls: list[tuple[float, str, int, int]] = field(default_factory=list)
    critical_us: list[tuple[float, float]] = field(default_factory=list)
    asks: list[float] = field(default_factory=list)
    settles: list[float] = field(default_factory=list)


class AnyGate(Protocol):
    """The part of a gate that a driver uses."""

    async def wait_for_grant(self, ask: Ask, hold_seconds: float) -> Grant | Wait | Refusal:
        """Wait for a grant."""

    async def settle(self, settlement: Settlement, /) -> bool:
        """Report actual use."""

    async def penalize(self, target: Target, penalty: Penalty) -> None:
        """Report a 429."""


class CountedGate(Gate):
    """Counts its calls of Redis, and reads the server's time before a critical job's first question."""

    def __init__(self, room: Admission, seen: Seen) -> None:
        super().__init__(room.wire, room.keys)
        self._room, self._seen = room, seen
        self._first: dict[AttemptId, int] = {}

    async def admit(self, ask: Ask) -> Grant | Wait | Refusal:
        """Ask. A critical wait is measured by the server's clock, from the first question to the granted slot."""
        self._seen.asks.append(time.time())
        if not ask.attempt_id.startswith("critical"):
            return await super().admit(ask)
        now, answer = await asyncio.gather(self._room.wire.command("TIME"), super().admit(ask))
        self._first.setdefault(ask.attempt_id, (int(now[0]) - ORIGIN_SECONDS) * 1_000_000 + int(now[1]))
        if isinstance(answer, Grant):
            self._seen.critical_us.append((time.time(), moment_of(answer.stamp) - self._first.pop(ask.attempt_id)))
        return answer

    async def settle(self, settlement: Settlement) -> bool:
        """Settle, and count it."""
        self._seen.settles.append(time.time())
        return await super().settle(settlement)


class Driver:
    """One of the processes."""

    def __init__(self, spec: Spec, number: int, gate: AnyGate, seen: Seen) -> None:
        self._spec, self._number, self._gate, self._seen = spec, number, gate, seen
        self._caller = Caller("127.0.0.1", spec.port)
        self._chance = random.Random(number)  # noqa: S311 - the same mixture in every run
        self._numbers = count(1)
        self._calls: set[asyncio.Task[None]] = set()
        self._target = Target(account="bench", model=spec.model)

    async def run(self) -> None:
        """Generate all loads until the end, then let the calls in flight finish."""
        await asyncio.sleep(max(0.0, self._spec.start_at - time.time()))
        work = [asyncio.create_task(self._wait(load)) for load in self._spec.loads for _ in range(load.waiters)]
        work += [asyncio.create_task(self._arrive(load)) for load in self._spec.loads if load.per_second]
        await asyncio.sleep(self._spec.start_at + self._spec.seconds - time.time())
        for task in work:
            task.cancel()
        ends = await asyncio.gather(*work, return_exceptions=True)
        await asyncio.gather(*self._calls)
        await self._caller.aclose()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _wait(self, load: Load) -> None:
        while True:
            while len(self._calls) >= MOST_CALLS:
                await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
            await self._admitted(load)

    async def _arrive(self, load: Load) -> None:
        between = self._spec.processes / load.per_second
        await asyncio.sleep(between * self._number / self._spec.processes)
        async with asyncio.TaskGroup() as arriving:
            while True:
                arriving.create_task(self._admitted(load))
                await asyncio.sleep(between)

    async def _admitted(self, load: Load) -> None:
        size = self._chance.choice(load.tokens)
        lane = Lane.LOW if self._spec.gate == "no_lanes" else Lane(load.lane)
        name = AttemptId(f"{load.lane}_{self._number}_{next(self._numbers)}")
        ask = Ask(attempt_id=name, target=self._target, lane=lane, tokens=size, cost_nano_usd=ZERO, epoch=1)
        began = time.time()
        answer = await self._gate.wait_for_grant(ask, PATIENCE_SECONDS)
        if not isinstance(answer, Grant):
            raise PenstockError(f"the gate said {answer}")
        if load.lane == Lane.CRITICAL and self._spec.gate not in {"shared", "no_lanes"}:
            self._seen.critical_us.append((time.time(), (time.time() - began) * 1e6))
        call = asyncio.create_task(self._call(load, size, answer))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call(self, load: Load, size: int, grant: Grant) -> None:
        sent_at = time.time()
        answer = await self._caller.post(_body(self._spec, size))
        self._seen.calls.append((sent_at, load.lane, answer.status, size))
        if answer.status == TOO_MANY:
            await self._gate.penalize(grant.target, _penalty(answer))
        await self._gate.settle(_settlement(grant, answer))


def _body(spec: Spec, size: int) -> bytes:
    return orjson.dumps(
        {
            "model": spec.model,
            "messages": [{"role": "user", "content": "Say something."}],
            "max_completion_tokens": size - spec.prompt_tokens,
        }
    )


def _penalty(answer: Answer) -> Penalty:
    """Return what the pipeline would report: the provider's wait, the limit that it names, and its figures."""
    error, now = orjson.loads(answer.body)["error"], datetime.now(UTC)
    message = error["message"]
    return Penalty(
        wait_ms=retry_after_ms(answer.headers, message, now) or 1,
        limit=limit_of(message, error["type"]),
        figures=figures_of(message, now),
    )


def _settlement(grant: Grant, answer: Answer) -> Settlement:
    headers = limits_of(answer.headers, datetime.now(UTC))
    if answer.status != OK:
        return Settlement(grant=grant, kind=SettleKind.RELEASE, refund_permits=False, headers=headers)
    used = orjson.loads(answer.body)["usage"]["total_tokens"]
    return Settlement(grant=grant, kind=SettleKind.POST, actual_tokens=used, headers=headers)


async def _drive(spec: Spec, number: int) -> Seen:
    seen, rate = Seen(), Rate(requests=spec.requests_per_second, tokens=spec.tokens_per_second)
    if spec.gate == "own_bucket":
        await Driver(spec, number, OwnBucket(rate), seen).run()
        return seen
    if spec.gate == "fixed_window":
        async with Wire(spec.redis_url) as wire:
            window = FixedWindow(wire, rate, spec.namespace)
            await Driver(spec, number, window, seen).run()
        seen.asks = [spec.start_at] * window.asks
        return seen
    async with connected(spec.redis_url, namespace=spec.namespace) as room:
        gate = LocalGate(CountedGate(room, seen), jitter=random.Random(number).random)  # noqa: S311 - spreads waits
        await Driver(spec, number, gate, seen).run()
        await gate.aclose()
    return seen


def _process(spec: Spec, number: int, answer: Connection) -> None:
    answer.send(asdict(asyncio.run(_drive(spec, number))))
    answer.close()


def drive(spec: Spec) -> list[dict[str, Any]]:
    """Fork the processes and collect their measurements. Raises PenstockError when one of them failed."""
    gc.freeze()
    forking = multiprocessing.get_context("fork")
    pipes = [forking.Pipe(duplex=False) for _ in range(spec.processes)]
    processes = [
        forking.Process(target=_process, args=(spec, number, there)) for number, (_, there) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    for _, there in pipes:
        there.close()
    seen: list[dict[str, Any]] = []
    with contextlib.suppress(EOFError):
        seen = [here.recv() for here, _ in pipes]
    for process in processes:
        process.join()
    if len(seen) < spec.processes:
        raise PenstockError("a driver process failed")
    return seen


def spec_of(given: Mapping[str, Any]) -> Spec:
    """Parse a run from its JSON form."""
    loads: Sequence[Mapping[str, Any]] = given["loads"]
    return Spec(**{**given, "loads": tuple(Load(**{**load, "tokens": tuple(load["tokens"])}) for load in loads)})


if __name__ == "__main__":
    print(json.dumps(drive(spec_of(json.loads(sys.argv[1])))))  # noqa: T201 - its answer
