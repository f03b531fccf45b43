"""Compares a stack with a thousand and with a million low jobs queued: the same work in the same minutes.

One stack goes shallow → deep → shallow. Each part has rounds of two models: the provider of one answers at once, so
that the cores bind; the other has a limit, so that the quota binds. The same statement keeps the depth filled in every
round. The deep part is compared with both shallow parts together.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.stack.criticals import Criticals, Spread, calling
from bench.stack.rig import LOOK_SECONDS, Rig, Upstream, opened_rig

SHALLOW_JOBS = 1_000
PER_MINUTE = 4_800
"""80 a second: a quarter of the throughput of two cores, so that the limit binds."""

CORES = Upstream(model="gpt-4.1-mini", requests_per_minute=0, provider_words=("--instant",))
QUOTA = Upstream(
    model="gpt-4.1",
    requests_per_minute=PER_MINUTE,
    provider_words=("--latency", "fixed:300", "--burst-seconds", "1"),
)
WARM_UP_SECONDS = 5.0
"""Time before each round to fill prefetch windows and slots. The first one is longer: processes import."""
FIRST_WARM_UP_SECONDS = 15.0
KEPT_THROUGHPUT = 0.95
LONGEST_PATH = 1.2
FLAT_MEMORY = 1.1


@dataclass(frozen=True, kw_only=True)
class Part:
    """One depth: jobs answered per second, by what binds, and times of critical jobs beside the low ones."""

    jobs: int
    by_cores: float
    by_quota: float
    redis_bytes: int
    sync: Spread
    lanes: Spread


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """One run. `idle` has only critical jobs, measured in the shallow parts."""

    jobs: int
    seconds: float
    redis_bytes_empty: int
    shallow: tuple[Part, Part]
    deep: Part
    idle_sync: Spread
    idle_lanes: Spread

    @property
    def cores_ratio(self) -> float:
        """Throughput at depth over the shallow one, where the cores bind."""
        return self.deep.by_cores / (sum(part.by_cores for part in self.shallow) / 2)

    @property
    def quota_ratio(self) -> float:
        """Throughput at depth over the shallow one, where the quota binds."""
        return self.deep.by_quota / (sum(part.by_quota for part in self.shallow) / 2)

    @property
    def redis_ratio(self) -> float:
        """Redis memory with the deep backlog over that with the shallow ones."""
        return self.deep.redis_bytes / max(part.redis_bytes for part in self.shallow)

    @property
    def path_ratios(self) -> Mapping[str, float]:
        """A critical job's whole time beside the deep backlog over that in an idle system."""
        return {
            "sync p50": self.deep.sync.p50_ms / self.idle_sync.p50_ms,
            "sync p99": self.deep.sync.p99_ms / self.idle_sync.p99_ms,
            "lanes p50": self.deep.lanes.p50_ms / self.idle_lanes.p50_ms,
            "lanes p99": self.deep.lanes.p99_ms / self.idle_lanes.p99_ms,
        }


def measure(home: Path, env: Mapping[str, str], *, jobs: int, seconds: float, processes: int, slots: int) -> Backlog:
    """Run the comparison. Raises PenstockError when something does not start or does not end."""
    with opened_rig(home, env, (CORES, QUOTA), workers=processes, slots=slots) as rig:
        empty, idle = rig.redis_bytes(), Criticals()
        rig.fill(CORES.model, SHALLOW_JOBS)
        _keep_filled(rig, CORES, FIRST_WARM_UP_SECONDS)
        shallow = [_shallow(rig, seconds, idle)]
        deep = _deep(rig, jobs, seconds)
        shallow.append(_shallow(rig, seconds, idle))
    return Backlog(
        jobs=jobs,
        seconds=seconds,
        redis_bytes_empty=empty,
        shallow=(shallow[0], shallow[1]),
        deep=deep,
        idle_sync=Spread.of(idle.sync_ms),
        idle_lanes=Spread.of(idle.lanes_ms),
    )


def _shallow(rig: Rig, seconds: float, idle: Criticals) -> Part:
    rig.fill(CORES.model, SHALLOW_JOBS)
    by_cores, memory = _warm_round(rig, CORES, seconds)
    rig.wait_idle(empty=True)
    with calling(rig, QUOTA.model) as seen:
        time.sleep(seconds)
    idle.sync_ms += seen.sync_ms
    idle.lanes_ms += seen.lanes_ms
    rig.fill(QUOTA.model, SHALLOW_JOBS)
    part = _by_quota(rig, SHALLOW_JOBS, seconds, (by_cores, memory))
    rig.wait_idle(empty=True)
    return part


def _deep(rig: Rig, jobs: int, seconds: float) -> Part:
    for upstream in (CORES, QUOTA):
        rig.pause(upstream.model)
        rig.fill(upstream.model, jobs // 2)
    rig.tidy()
    rig.resume(CORES.model)
    by_cores, memory = _warm_round(rig, CORES, seconds)
    rig.pause(CORES.model)
    rig.resume(QUOTA.model)
    part = _by_quota(rig, jobs, seconds, (by_cores, memory))
    rig.pause(QUOTA.model)
    rig.wait_idle(empty=False)
    rig.ask("TRUNCATE jobs CASCADE")
    for upstream in (CORES, QUOTA):
        rig.resume(upstream.model)
    return part


def _by_quota(rig: Rig, jobs: int, seconds: float, by_cores: tuple[float, int]) -> Part:
    _keep_filled(rig, QUOTA, WARM_UP_SECONDS)
    with calling(rig, QUOTA.model) as seen:
        by_quota, memory = _keep_filled(rig, QUOTA, seconds)
    return Part(
        jobs=jobs,
        by_cores=by_cores[0],
        by_quota=by_quota,
        redis_bytes=max(by_cores[1], memory),
        sync=Spread.of(seen.sync_ms),
        lanes=Spread.of(seen.lanes_ms),
    )


def _warm_round(rig: Rig, upstream: Upstream, seconds: float) -> tuple[float, int]:
    _keep_filled(rig, upstream, WARM_UP_SECONDS)
    return _keep_filled(rig, upstream, seconds)


def _keep_filled(rig: Rig, upstream: Upstream, seconds: float) -> tuple[float, int]:
    """Return low jobs answered per second, and the larger memory of Redis at start and end."""
    since, began, filled, memory = rig.last_entry(), time.perf_counter(), 0, rig.redis_bytes()
    while (passed := time.perf_counter() - began) < seconds:
        time.sleep(min(LOOK_SECONDS, seconds - passed))
        answered = rig.answered(upstream.model, since)
        rig.fill(upstream.model, answered - filled)
        filled = answered
    passed = time.perf_counter() - began
    return rig.answered(upstream.model, since) / passed, max(memory, rig.redis_bytes())


def misses(result: Backlog) -> dict[str, list[str]]:
    """Return the promises that each line does not keep, by the line's name."""
    ratios = {"cores": result.cores_ratio, "quota": result.quota_ratio}
    found = {name: [f"< {KEPT_THROUGHPUT}"] * (ratio < KEPT_THROUGHPUT) for name, ratio in ratios.items()}
    found["redis"] = [f"> {FLAT_MEMORY}"] * (result.redis_ratio > FLAT_MEMORY)
    found |= {name: [f"> {LONGEST_PATH}"] * (ratio > LONGEST_PATH) for name, ratio in result.path_ratios.items()}
    return found


def lines_of(result: Backlog) -> Iterator[str]:
    """Yield the table for people."""
    deep, missed = result.deep, misses(result)
    yield f"{'':<44}{'reference':>12}{f'{result.jobs:,}':>12}{'ratio':>8}"
    for name, kind, before, ratio in (
        ("cores", "low jobs/s, the cores bind", [part.by_cores for part in result.shallow], result.cores_ratio),
        ("quota", "low jobs/s, the quota binds", [part.by_quota for part in result.shallow], result.quota_ratio),
    ):
        now = deep.by_cores if name == "cores" else deep.by_quota
        yield _line(kind, sum(before) / 2, now, ratio, missed[name])
    memory = max(part.redis_bytes for part in result.shallow) / 1_000
    yield _line("memory of Redis, kB", memory, deep.redis_bytes / 1_000, result.redis_ratio, missed["redis"])
    for name, ratio in result.path_ratios.items():
        kind, _, cut = name.partition(" ")
        idle = result.idle_sync if kind == "sync" else result.idle_lanes
        now_spread = deep.sync if kind == "sync" else deep.lanes
        pair = [getattr(spread, f"{cut}_ms") for spread in (idle, now_spread)]
        yield _line(f"critical job by the {kind}, {cut} ms", pair[0], pair[1], ratio, missed[name])
    yield ""
    yield f"low jobs/s: with {SHALLOW_JOBS:,} kept queued, before and after, and with {result.jobs:,}, half of each;"
    yield f"  the quota is {PER_MINUTE / 60:.0f} requests/s at 300 ms a call, and critical jobs take their part of it."
    yield "critical: idle against the quota-bound work on the deep backlog. sync: a synchronous chat completion on the"
    yield "  caller's clock; lanes: a job handed in at /jobs, from its row to its rest on the clock of Postgres."
    beside = [f"{kind} {_both(result.shallow, kind)} ms" for kind in ("sync", "lanes")]
    yield f"  Beside the same work with {SHALLOW_JOBS:,} queued, p50 and p99: {', '.join(beside)}."
    yield f"Rounds of {result.seconds:.0f} s; empty, Redis used {result.redis_bytes_empty / 1_000:,.0f} kB."


def _both(parts: Sequence[Part], kind: str) -> str:
    """Return the mean of the parts: the load's effect on a critical job, without that of depth."""
    spreads = [getattr(part, kind) for part in parts]
    middle, slow = (sum(getattr(spread, cut) for spread in spreads) / len(spreads) for cut in ("p50_ms", "p99_ms"))
    return f"{middle:.0f} and {slow:.0f}"


def _line(name: str, before: float, now: float, ratio: float, missed: Sequence[str]) -> str:
    verdict = f"MISSED: {', '.join(missed)}" if missed else "kept"
    return f"{name:<44}{before:>12,.1f}{now:>12,.1f}{ratio:>8.2f}  {verdict}"
