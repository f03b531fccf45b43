"""Ten thousand workers and 64 accounts, simulated: where one Redis ends, and what shards, agents and escrow change.

Run by `python -m bench.simulated_scaling`; seeded, some seconds long. Script times are what the server counted
in `bench_admission`; give others by `--admit-us` and `--settle-us`. It knows queues, not networks and not failures.
"""

import argparse
import random
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from itertools import accumulate

SEED = 7
WORKERS, ACCOUNTS, WORKERS_PER_HOST = 10_000, 64, 32
JOBS_PER_SECOND_PER_ACCOUNT = 500
COMMAND_US = 14.0
"""Server time per command beside its script: reading, writing, the epoch's keys."""

SETTLES_AND_WAITS = 0.3
"""Waits with a ticket per job, besides its one grant, while a quota is contended."""

HIGHEST_LOAD = 0.45
"""Highest load of a shard's core. The rest serves a burst, a replica's copy and the failover of a neighbour."""

SECONDS = 4.0
ESCROW_RUNS = 20
SHARDS_OF_THE_MAP = 16
FINISHES_PER_SECOND_PER_POSTGRES = 8_000
"""Grouped commits on one small node, as measured in the sketches of this design; not measured here."""


@dataclass(frozen=True)
class Costs:
    """Microseconds of one core."""

    admit_us: float
    settle_us: float

    @property
    def job_us(self) -> float:
        """Core time of all calls of one job."""
        scripts = self.admit_us * (1 + SETTLES_AND_WAITS) + self.settle_us
        return scripts + COMMAND_US * (2 + SETTLES_AND_WAITS)


def zipf(count: int, skew: float) -> list[float]:
    """Return Zipf-distributed shares of a total, the largest first."""
    weights = [1 / (rank + 1) ** skew for rank in range(count)]
    return [weight / sum(weights) for weight in weights]


def waits_us(chance: random.Random, jobs_per_second: float, costs: Costs, seconds: float) -> tuple[float, float]:
    """Return the load of one shard, and the 99th percentile of an admission's wait there."""
    calls = [costs.admit_us + COMMAND_US, costs.settle_us + COMMAND_US, costs.admit_us + COMMAND_US]
    weights = [1.0, 1.0, SETTLES_AND_WAITS]
    rate_per_us = jobs_per_second * sum(weights) / 1e6
    now = free = busy = 0.0
    found: list[float] = []
    while now < seconds * 1e6:
        now += chance.expovariate(rate_per_us)
        took = chance.choices(calls, weights)[0]
        found.append(max(0.0, free - now))
        free = max(free, now) + took
        busy += took
    found.sort()
    return busy / now, found[int(0.99 * len(found))]


def hashed(chance: random.Random, shares: Sequence[float], shards: int) -> list[float]:
    """Return the load of each shard where a hash places accounts."""
    loads = [0.0] * shards
    for share in shares:
        loads[chance.randrange(shards)] += share
    return loads


def mapped(shares: Sequence[float], shards: int) -> list[float]:
    """Return the load of each shard where a map places accounts, largest first, each on the least loaded shard."""
    loads = [0.0] * shards
    heapify(loads)
    for share in sorted(shares, reverse=True):
        heapreplace(loads, loads[0] + share)
    return loads


def lease(chance: random.Random, jobs_per_second: float, lease_seconds: float) -> tuple[float, float]:
    """Return calls per job, and the part of lent permits left unused, for a holder that borrows its recent use."""
    now, until, left, calls, jobs, lent, expected = 0.0, 0.0, 0, 0, 0, 0, jobs_per_second * lease_seconds
    used = 0
    while jobs < 4_000:
        now += chance.expovariate(jobs_per_second)
        if now >= until or left == 0:
            if now >= until:
                expected += 0.3 * (used - expected)
                used = 0
            left = max(1, round(expected))
            lent += left
            calls += 1
            until = now + lease_seconds
        left, jobs, used = left - 1, jobs + 1, used + 1
    return calls / jobs, (lent - jobs) / lent


def escrow(chance: random.Random, chunks: int, shares: Sequence[float]) -> tuple[float, float]:
    """Return draws per 1,000 jobs, and the part of the budget stranded in shards at the first refusal.

    Shards draw money in chunks of 1/`chunks` of the budget.
    """
    jobs, draws = 20_000, 0
    budget, chunk = float(jobs), jobs / chunks
    held = [0.0] * len(shares)
    edges = list(accumulate(shares))
    for number in range(10 * jobs):
        shard = min(bisect_left(edges, chance.random()), len(shares) - 1)
        if held[shard] < 1:
            if budget < chunk:
                return 1_000 * draws / max(number, 1), (sum(held) + budget) / jobs
            budget, draws = budget - chunk, draws + 1
            held[shard] += chunk
        held[shard] -= 1
    return 1_000 * draws / jobs, 0.0


def report(costs: Costs) -> Iterator[str]:
    """Yield the report's lines."""
    chance = random.Random(SEED)  # noqa: S311 - repeatable, guards nothing
    total = ACCOUNTS * JOBS_PER_SECOND_PER_ACCOUNT
    yield f"admit {costs.admit_us:.0f} us, settle {costs.settle_us:.0f} us, job {costs.job_us:.0f} us of one core"
    cores, end = total * costs.job_us / 1e6, 1e6 / costs.job_us
    yield f"demand {total} jobs/s: {cores:.2f} cores of Redis; one core ends at {end:.0f} jobs/s"
    yield f"shards at a load of {HIGHEST_LOAD}: {-(-cores // HIGHEST_LOAD):.0f}"
    yield "one shard:    jobs/s   load   p99 wait us"
    for part in (0.25, 0.45, 0.7, 0.9, 0.97):
        load, wait = waits_us(chance, part * 1e6 / costs.job_us, costs, SECONDS)
        yield f"{part * 1e6 / costs.job_us:20.0f} {load:6.2f} {wait:11.0f}"
    yield "shards: busiest, even accounts hashed / mapped, Zipf 0.8 accounts hashed / mapped; p99 wait us of the last"
    even, skewed = [1 / ACCOUNTS] * ACCOUNTS, zipf(ACCOUNTS, 0.8)
    for shards in (8, 12, 16, 24):
        work = total * costs.job_us / 1e6
        places = [
            place for shares in (even, skewed) for place in (hashed(chance, shares, shards), mapped(shares, shards))
        ]
        busiest = [max(place) * work for place in places]
        wait = waits_us(chance, min(busiest[-1], 0.97) * 1e6 / costs.job_us, costs, 1.0)[1]
        yield f"{shards:6} " + " ".join(f"{load:7.2f}" for load in busiest) + f" {wait:8.0f}"
    yield from _leases(chance, total)
    yield "escrow: chunks of a budget over the shards, draws per 1,000 jobs, stranded at the first refusal"
    for chunks in (32, 320, 3_200):
        runs = [escrow(chance, chunks, mapped(skewed, SHARDS_OF_THE_MAP)) for _ in range(ESCROW_RUNS)]
        draws, stranded = (sum(column) / ESCROW_RUNS for column in zip(*runs, strict=True))
        yield f"{chunks:6} {draws:9.2f} {stranded:8.1%}"
    nodes = total / FINISHES_PER_SECOND_PER_POSTGRES
    yield f"Postgres: {total} finishes/s need {nodes:.0f} nodes of {FINISHES_PER_SECOND_PER_POSTGRES}/s"


def _leases(chance: random.Random, total: int) -> Iterator[str]:
    hosts = -(-WORKERS // WORKERS_PER_HOST)
    per_worker, per_host = total / WORKERS, total / hosts
    each = per_host / ACCOUNTS
    yield f"per second: {per_worker:.1f} a worker, {per_host:.0f} a host ({hosts} hosts), {each:.1f} a host and account"
    for window_ms in (1, 5, 20):
        batch = 1 + per_host / SHARDS_OF_THE_MAP * window_ms / 1e3
        yield f"batching {window_ms:3} ms: {batch:.2f} admissions a call of a host to one of {SHARDS_OF_THE_MAP} shards"
    yield "lease s: calls per job (lent in vain) of a worker, of a host and account, of a host that has one account"
    for seconds in (0.05, 0.25, 1.0):
        cells = [lease(chance, rate, seconds) for rate in (per_worker, each, per_host)]
        yield f"{seconds:7.2f} " + " ".join(f"{calls:6.2f} ({waste:4.0%})" for calls, waste in cells)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--admit-us", type=float, default=42.0)
    parser.add_argument("--settle-us", type=float, default=42.0)
    given = parser.parse_args()
    costs = Costs(admit_us=given.admit_us, settle_us=given.settle_us)
    sys.stdout.write("\n".join(report(costs)) + "\n")


if __name__ == "__main__":
    main()
