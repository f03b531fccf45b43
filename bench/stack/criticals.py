"""Times critical jobs at a steady pace beside other load, from the caller's request to the result.

sync    a synchronous chat completion, on the caller's clock
lanes   a job submitted at `/jobs`, from its row to its terminal state on Postgres's clock: queue, slot and gate
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import quantiles

from bench.gate.caller import Caller
from bench.stack.rig import Rig
from schemas.errors import PenstockError

PER_SECOND = 8.0
"""Calls of each kind: a fifth of the limit together, so that critical jobs alone never fill it."""

SLOWEST_SECONDS = 60.0
FINE = 200

LANES_MS = """
SELECT extract(epoch FROM rested_at - created_at) * 1000 FROM jobs
WHERE lane = 'critical' AND NOT synchronous AND state = 'completed' AND tenant_id = 'default'
  AND created_at > %(since)s::timestamptz
"""
NOW = "SELECT clock_timestamp()::text"
STILL_OUT = """
SELECT EXISTS (SELECT 1 FROM jobs WHERE tenant_id = 'default' AND created_at > %(since)s::timestamptz
    AND lane = 'critical' AND state NOT IN ('completed', 'dead', 'cancelled', 'expired'))
"""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median and slow end of many times, in milliseconds."""

    p50_ms: float
    p99_ms: float
    count: int

    @classmethod
    def of(cls, taken_ms: list[float]) -> "Spread":
        """Compute the spread. Raises PenstockError for fewer than two times."""
        if len(taken_ms) < 2:
            raise PenstockError("too few critical jobs were answered to say how long they take")
        cuts = quantiles(taken_ms, n=100, method="inclusive")
        return cls(p50_ms=cuts[49], p99_ms=cuts[98], count=len(taken_ms))


@dataclass
class Criticals:
    """Times that the callers measured."""

    sync_ms: list[float] = field(default_factory=list)
    lanes_ms: list[float] = field(default_factory=list)


@contextmanager
def calling(rig: Rig, model: str) -> Iterator[Criticals]:
    """Call from a thread while the block runs; after the block all results are in. Raises PenstockError."""
    seen, stop, since = Criticals(), threading.Event(), rig.ask(NOW)[0][0]
    failed: list[Exception] = []

    def work() -> None:
        try:
            asyncio.run(_call(rig, model, seen, stop))
        except (OSError, PenstockError) as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="criticals")
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
    if failed:
        raise PenstockError(f"a critical call failed: {failed[0]}") from failed[0]
    give_up_at = time.monotonic() + SLOWEST_SECONDS
    while rig.ask(STILL_OUT, since=since)[0][0] and time.monotonic() < give_up_at:
        time.sleep(0.1)
    seen.lanes_ms = [float(taken) for (taken,) in rig.ask(LANES_MS, since=since)]


async def _call(rig: Rig, model: str, seen: Criticals, stop: threading.Event) -> None:
    host, port, key = "127.0.0.1", rig.stack.port, rig.stack.key
    api, lanes = Caller(host, port, key=key), Caller(host, port, path="/jobs", key=key)
    asked: set[asyncio.Task[None]] = set()
    began, number = time.perf_counter(), 0
    while not stop.is_set():
        body = _body(model, number)
        asked |= {asyncio.create_task(_timed(api, body, seen.sync_ms)), asyncio.create_task(_timed(lanes, body, []))}
        number += 1
        await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.perf_counter()))
    await asyncio.gather(*asked)
    await api.aclose()
    await lanes.aclose()


async def _timed(caller: Caller, body: bytes, taken_ms: list[float]) -> None:
    began = time.perf_counter()
    answer = await caller.post(body)
    if answer.status > FINE:
        raise PenstockError(f"a critical call was answered with status {answer.status}")
    taken_ms.append(1_000 * (time.perf_counter() - began))


def _body(model: str, number: int) -> bytes:
    said = [{"role": "user", "content": f"Critical question {number}."}]
    return json.dumps({"model": model, "lane": "critical", "max_completion_tokens": 16, "messages": said}).encode()
