"""Runs the driver processes against a provider of their own, and computes the results.

The provider is a process with its own clock and a bucket one second deep; it starts anew for every row. Utilisation is
what it accepted over what it refilled in the window, which begins after the warm-up.
"""

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import quantiles
from typing import Any

from admission.connect import connected
from admission.limits import TargetLimits
from admission.state import DEFAULT_SHARES
from bench.gate.drivers import OK, TOO_MANY, Load, Spec
from bench.provider import provider
from schemas.errors import PenstockError
from schemas.job import Target
from stack.home import Home
from stack.valkey import Valkey

MODEL = "gpt-4.1-mini"
PROCESSES = 16
START_SECONDS = 3.0
"""Time for sixteen processes to fork and connect."""
WARM_UP_SECONDS = 4.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row: the provider's limits, the limits that we configure, and the load. 0 is no limit."""

    name: str
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    latency: str = "lognormal:300,0.4"
    told: float = 1.0
    gate: str = "shared"
    shares: tuple[float, float, float, float] = DEFAULT_SHARES
    loads: tuple[Load, ...] = (Load(lane="low", waiters=16),)
    warm_up_seconds: float = WARM_UP_SECONDS
    promise: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a row. Shares are of accepted tokens, waits in milliseconds."""

    utilisation: float
    refused: float
    calls: int
    critical_p99_ms: float | None
    critical_p50_ms: float | None
    share_of: Mapping[str, float]
    asks_per_job: float
    redis_calls_per_job: float


def measure(case: Case, redis_url: str, env: Mapping[str, str], *, seconds: float) -> Result:
    """Run one row. Raises PenstockError when a process does not start."""
    with provider(_words(case), env) as port:
        spec = _spec(case, redis_url, port, seconds)
        asyncio.run(_prepare(case, spec))
        spec = replace(spec, start_at=time.time() + START_SECONDS)
        words = [sys.executable, "-m", "bench.gate.drivers", json.dumps(asdict(spec))]
        done = subprocess.run(words, env=dict(env), capture_output=True, text=True, check=False)
        if done.returncode:
            raise PenstockError(f"the drivers failed: {done.stderr[-2_000:]}")
        return _result(case, spec, json.loads(done.stdout))


def measure_all(home: Path, env: Mapping[str, str], cases: Sequence[Case], *, seconds: float) -> Iterator[Result]:
    """Run rows one after another against one Redis of their own."""
    place = Home(home)
    with place.locked(), Valkey(place).running() as server:
        for case in cases:
            yield measure(case, server.url, env, seconds=seconds)


def _words(case: Case) -> list[str]:
    limits = [
        "--requests-per-minute",
        str(case.requests_per_minute),
        "--tokens-per-minute",
        str(case.tokens_per_minute),
    ]
    return ["--latency", case.latency, *limits]


def _spec(case: Case, redis_url: str, port: int, seconds: float) -> Spec:
    return Spec(
        gate=case.gate,
        redis_url=redis_url,
        namespace=f"bench{time.time_ns()}",
        port=port,
        model=MODEL,
        prompt_tokens=_prompt_tokens(port),
        processes=PROCESSES,
        requests_per_second=case.requests_per_minute * case.told / 60,
        tokens_per_second=case.tokens_per_minute * case.told / 60,
        start_at=0.0,
        seconds=case.warm_up_seconds + seconds,
        loads=case.loads,
    )


def _prompt_tokens(port: int) -> int:
    """Ask the provider once how many tokens the drivers' prompt has."""
    body = {"model": MODEL, "max_completion_tokens": 8, "messages": [{"role": "user", "content": "Say something."}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"authorization": "Bearer probe"},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - the same
        return int(json.load(answer)["usage"]["prompt_tokens"])


async def _prepare(case: Case, spec: Spec) -> None:
    limits = TargetLimits(
        target=Target(account="bench", model=MODEL),
        requests_per_minute=round(case.requests_per_minute * case.told) or None,
        tokens_per_minute=round(case.tokens_per_minute * case.told) or None,
        shares=case.shares,
    )
    async with connected(spec.redis_url, namespace=spec.namespace) as room:
        await room.ledger.rebuild(1, [], [], [(limits, 1)])


def _result(case: Case, spec: Spec, seen: list[dict[str, Any]]) -> Result:
    began, ended = spec.start_at + case.warm_up_seconds, spec.start_at + spec.seconds
    calls = [call for each in seen for call in each["calls"] if began <= call[0] < ended]
    accepted = [call for call in calls if call[2] == OK]
    tokens = sum(size for *_, size in accepted)
    per_second = {
        "requests": len(accepted) / (ended - began) / (case.requests_per_minute / 60 or float("inf")),
        "tokens": tokens / (ended - began) / (case.tokens_per_minute / 60 or float("inf")),
    }
    waits = sorted(wait / 1_000 for each in seen for at, wait in each["critical_us"] if began <= at < ended)
    asks = sum(began <= at < ended for each in seen for at in each["asks"])
    settles = sum(began <= at < ended for each in seen for at in each["settles"])
    cuts = quantiles(waits, n=100, method="inclusive") if len(waits) > 1 else None
    return Result(
        utilisation=max(per_second.values()),
        refused=sum(call[2] == TOO_MANY for call in calls) / max(1, len(calls)),
        calls=len(calls),
        critical_p99_ms=cuts[98] if cuts else None,
        critical_p50_ms=cuts[49] if cuts else None,
        share_of={
            load.lane: sum(size for _, lane, _, size in accepted if lane == load.lane) / max(1, tokens)
            for load in case.loads
        },
        asks_per_job=asks / max(1, len(calls)),
        redis_calls_per_job=(asks + settles) / max(1, len(calls)),
    )
