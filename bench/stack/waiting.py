"""Measures memory and slots that ten thousand waiting jobs of a frozen model take.

Both models have a backlog and a limit that binds. Then one is frozen, as by a 429 with a retry-after, and the other
goes on. Memory is that of all worker processes; held jobs are those in their slots.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.stack.backlog import FIRST_WARM_UP_SECONDS
from bench.stack.rig import LOOK_SECONDS, Rig, Upstream, opened_rig

PER_MINUTE = 3_000
WORDS = ("--latency", "fixed:300", "--burst-seconds", "1")
FROZEN = Upstream(model="gpt-4.1", requests_per_minute=PER_MINUTE, provider_words=WORDS)
OTHER = Upstream(model="gpt-4.1-mini", requests_per_minute=PER_MINUTE, provider_words=WORDS)
OTHER_WORKERS = 2
"""`penstock up` starts an interactive and a bulk process beside the standard ones."""

KEPT_THROUGHPUT = 0.95
FLAT_MEMORY = 1.05
STOPPED_AFTER_SECONDS = 3.0
"""By then, calls admitted before the freeze have been answered."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One stretch of time: jobs of the other model per second, peak memory, and most held jobs by model."""

    per_second: float
    worker_bytes: int
    held: int
    held_frozen: int
    frozen_per_second: float


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """One run."""

    jobs: int
    seconds: float
    slots: int
    before: Seen
    during: Seen
    after: Seen
    left_in_postgres: int

    @property
    def throughput_ratio(self) -> float:
        """The other model's jobs per second during the freeze over before."""
        return self.during.per_second / self.before.per_second

    @property
    def memory_ratio(self) -> float:
        """Memory of the workers during the freeze over before."""
        return self.during.worker_bytes / self.before.worker_bytes


def measure(home: Path, env: Mapping[str, str], *, jobs: int, seconds: float, processes: int, slots: int) -> Waiting:
    """Run it. Raises PenstockError when something does not start."""
    with opened_rig(home, env, (FROZEN, OTHER), workers=processes, slots=slots) as rig:
        for upstream in (FROZEN, OTHER):
            rig.fill(upstream.model, jobs)
        rig.tidy()
        _watch(rig, FIRST_WARM_UP_SECONDS)
        before = _watch(rig, seconds)
        rig.fill(FROZEN.model, rig.answered(FROZEN.model, 0))
        rig.freeze(FROZEN.target, seconds + STOPPED_AFTER_SECONDS)
        time.sleep(STOPPED_AFTER_SECONDS)
        during = _watch(rig, seconds)
        left = int(rig.ask("SELECT count(*) FROM jobs WHERE state IN ('queued', 'waiting')")[0][0])
        after = _watch(rig, seconds)
    return Waiting(
        jobs=jobs,
        seconds=seconds,
        slots=slots * (processes + OTHER_WORKERS),
        before=before,
        during=during,
        after=after,
        left_in_postgres=left,
    )


def _watch(rig: Rig, seconds: float) -> Seen:
    since, began, memory, held, frozen = rig.last_entry(), time.perf_counter(), 0, 0, 0
    while (passed := time.perf_counter() - began) < seconds:
        time.sleep(min(LOOK_SECONDS, seconds - passed))
        now = rig.held()
        memory, held = max(memory, rig.worker_bytes()), max(held, sum(now.values()))
        frozen = max(frozen, now.get(FROZEN.model, 0))
    passed = time.perf_counter() - began
    return Seen(
        per_second=rig.answered(OTHER.model, since) / passed,
        worker_bytes=memory,
        held=held,
        held_frozen=frozen,
        frozen_per_second=rig.answered(FROZEN.model, since) / passed,
    )


def misses(result: Waiting) -> dict[str, list[str]]:
    """Return the promises that each line does not keep, by the line's name."""
    held = max(seen.held for seen in (result.before, result.during, result.after))
    return {
        "other": [f"< {KEPT_THROUGHPUT}"] * (result.throughput_ratio < KEPT_THROUGHPUT),
        "memory": [f"> {FLAT_MEMORY}"] * (result.memory_ratio > FLAT_MEMORY),
        "held": [f"> {result.slots} slots"] * (held > result.slots),
    }


def lines_of(result: Waiting) -> Iterator[str]:
    """Yield the table for people."""
    stretches, missed = (result.before, result.during, result.after), misses(result)
    yield f"{'':<40}{'before':>10}{'frozen':>10}{'after':>10}{'ratio':>8}"
    other = [f"{seen.per_second:.1f}" for seen in stretches]
    yield _line("the other model, jobs/s", other, f"{result.throughput_ratio:.2f}", missed["other"])
    memory = [f"{seen.worker_bytes / 1_000_000:.1f}" for seen in stretches]
    yield _line("memory of the workers, MB", memory, f"{result.memory_ratio:.3f}", missed["memory"])
    yield _line("jobs held at once, at most", [str(seen.held) for seen in stretches], "", missed["held"])
    frozen = [str(seen.held_frozen) for seen in stretches]
    yield f"{'  of them of the frozen model':<40}" + "".join(f"{cell:>10}" for cell in frozen)
    rates = [f"{seen.frozen_per_second:.1f}" for seen in stretches]
    yield f"{'the frozen model, jobs/s':<40}" + "".join(f"{cell:>10}" for cell in rates)
    yield ""
    rate, length = PER_MINUTE / 60, result.seconds
    yield f"{result.jobs:,} jobs of each model queued, {rate:.0f} requests/s allowed to each; one is frozen as by a"
    yield f"  retry-after of {length:.0f} s. At its end {result.left_in_postgres:,} jobs waited in Postgres;"
    yield f"  the pools have {result.slots:,} slots. Memory and held: the most in {length:.0f} s; jobs/s: the mean."


def _line(name: str, cells: list[str], ratio: str, missed: list[str]) -> str:
    verdict = f"MISSED: {', '.join(missed)}" if missed else "kept"
    return f"{name:<40}" + "".join(f"{cell:>10}" for cell in cells) + f"{ratio:>8}  {verdict}"
