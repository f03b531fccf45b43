"""Compares the cost of a job with that of a bare call: same requests, same provider, same minute.

The provider answers instantly.

bare    processes of a plain loop of the official client     calls/s, CPU per call
steps   one process walks through the steps of a job         CPU per job and step
stack   a whole stack processes a batch                      jobs/s, CPU per job and process
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openai import DefaultHttpxClient, OpenAI

from bench.cpu import cpu_seconds
from bench.provider import provider
from bench.requests import MODEL, answer_text, batch_line
from bench.stack.steps import StepCost, walk
from schemas.errors import PenstockError
from stack.children import wait_until
from stack.home import Home
from stack.process import running_stack
from stack.servers import EmbeddedServers
from stack.status import read_status

LIMITS = "requests_per_minute = 6000000\ntokens_per_minute = 200000000000\n"
CONFIG = f"""\
[models."{MODEL}"]
{LIMITS}
[aliases]
small = ["{MODEL}"]
[[budgets]]
scope = "global"
window = "day"
limit_usd = "1000000"
"""
SETTLED_SHARE = 0.1
"""The first tenth of a batch is warm-up: imports, connection pools, query plans."""
LOOK_SECONDS = 0.25
LONGEST_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class BareCost:
    """The result of the plain loop, over all its processes."""

    calls_per_second: float
    cpu_ms_per_call: float


@dataclass(frozen=True, kw_only=True)
class StackCost:
    """The result of the whole stack; CPU milliseconds per job by process."""

    jobs_per_second: float
    cpu_ms_per_job: Mapping[str, float]

    @property
    def worker_cpu_ms_per_job(self) -> float:
        """Sum over all worker processes."""
        return sum(cost for name, cost in self.cpu_ms_per_job.items() if is_worker(name))


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """All results of one run."""

    jobs: int
    in_flight: int
    processes: int
    bare: BareCost
    stack: StackCost
    steps: tuple[StepCost, ...]

    @property
    def cpu_ratio(self) -> float:
        """Worker CPU per job over CPU per bare call; the promise is at most 1."""
        return self.stack.worker_cpu_ms_per_job / self.bare.cpu_ms_per_call

    @property
    def throughput_ratio(self) -> float:
        """Jobs/s of the stack over calls/s of the bare loop; the promise is at least 1."""
        return self.stack.jobs_per_second / self.bare.calls_per_second


def is_worker(name: str) -> bool:
    """Whether a process of the stack is a Celery worker."""
    return name.partition("-")[0] in {"interactive", "standard", "bulk"}


def measure(home: Path, env: Mapping[str, str], *, jobs: int, in_flight: int, processes: int) -> Overhead:
    """Run all three. Raises PenstockError when something does not start or does not end."""
    home.mkdir(parents=True, exist_ok=True)
    config = home / "bench.toml"
    config.write_text(CONFIG)
    with provider(("--instant", "--instant-answer", answer_text()), env) as port:
        base_url = f"http://127.0.0.1:{port}/v1"
        ours = dict(env) | {
            "PENSTOCK_CONFIG": str(config.absolute()),
            "PENSTOCK_SLOTS": str(in_flight + 32),
            "PENSTOCK_ENV": "production",
            "FLOWER_BASIC_AUTH": "bench:bench",
            "OPENAI_BASE_URL": base_url,
            "OPENAI_API_KEY": "bench",
        }
        bare = _bare(base_url, env, calls=jobs, in_flight=in_flight, processes=processes)
        steps = _steps(home, ours, config, jobs=jobs // 4, in_flight=in_flight)
        stack = _stack(home / "stack", ours, jobs=jobs, processes=processes)
    return Overhead(jobs=jobs, in_flight=in_flight, processes=processes, bare=bare, stack=stack, steps=steps)


def _bare(base_url: str, env: Mapping[str, str], *, calls: int, in_flight: int, processes: int) -> BareCost:
    words = ["-m", "bench.stack.bare_loop", base_url, str(calls // processes), str(in_flight)]
    started = [
        subprocess.Popen([sys.executable, *words], env=dict(env), stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    ends = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise PenstockError("the bare loop failed")
    found = [json.loads(end) for end in ends]
    return BareCost(
        calls_per_second=sum(each["calls"] / each["seconds"] for each in found),
        cpu_ms_per_call=1_000 * sum(each["cpu_seconds"] for each in found) / sum(each["calls"] for each in found),
    )


def _steps(home: Path, env: Mapping[str, str], config: Path, *, jobs: int, in_flight: int) -> tuple[StepCost, ...]:
    with EmbeddedServers.started(Home(home / "steps")) as servers:
        urls = {"PENSTOCK_REDIS_URL": servers.valkey.url, "PENSTOCK_DATABASE_URL": servers.postgres.url}
        released = subprocess.run(
            [sys.executable, "-m", "tasks.release"], env={**env, **urls}, capture_output=True, text=True, check=False
        )
        if released.returncode:
            raise PenstockError(f"the release failed: {released.stderr}")
        return asyncio.run(walk(config, urls, env, jobs=jobs, in_flight=in_flight))


def _stack(home: Path, env: Mapping[str, str], *, jobs: int, processes: int) -> StackCost:
    with running_stack(home, env, workers=processes) as stack:
        file = home / "bench.jsonl"
        file.write_bytes(b"".join(batch_line(number) for number in range(jobs)))
        plain = DefaultHttpxClient(trust_env=False)  # no proxy is used on this machine
        with OpenAI(base_url=f"{stack.connection.url}/v1", api_key=stack.key, http_client=plain) as client:
            uploaded = client.files.create(file=file, purpose="batch")
            batch = client.batches.create(
                input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            began = _Sample.when_done(home, client, batch.id, int(jobs * SETTLED_SHARE))
            ended = _Sample.when_done(home, client, batch.id, jobs)
    return ended.since(began)


@dataclass(frozen=True, kw_only=True)
class _Sample:
    at: float
    done: int
    cpu_seconds: Mapping[str, float]

    @classmethod
    def when_done(cls, home: Path, client: OpenAI, batch_id: str, wanted: int) -> "_Sample":
        """Wait until so many jobs of the batch are terminal, and take a sample."""
        done = 0

        def enough() -> bool:
            nonlocal done
            time.sleep(LOOK_SECONDS)
            counts = client.batches.retrieve(batch_id).request_counts
            done = counts.completed + counts.failed if counts else 0
            return bool(done >= wanted)

        if not wait_until(enough, seconds=LONGEST_SECONDS, pause_part=0):
            raise PenstockError(f"only {done} of {wanted} jobs came to rest")
        status = read_status(home)
        processes = status.processes if status else ()
        spent = {one.name: cpu_seconds(one.pid) for one in processes if one.pid is not None}
        return cls(at=time.perf_counter(), done=done, cpu_seconds=spent)

    def since(self, began: "_Sample") -> StackCost:
        jobs = self.done - began.done
        return StackCost(
            jobs_per_second=jobs / (self.at - began.at),
            cpu_ms_per_job={
                name: 1_000 * (spent - began.cpu_seconds.get(name, 0.0)) / jobs
                for name, spent in self.cpu_seconds.items()
            },
        )


def lines_of(result: Overhead) -> list[str]:
    """Return the table for people."""
    cores, stack = os.cpu_count(), result.stack
    lines = [
        f"{result.jobs} jobs, {result.in_flight} in flight per process, {result.processes} processes, {cores} cores",
        "",
        f"{'':<34}{'per second':>12}{'CPU ms each':>14}",
        f"{'bare client loop':<34}{result.bare.calls_per_second:>12.0f}{result.bare.cpu_ms_per_call:>14.2f}",
        f"{'penstock (CPU of its workers)':<34}{stack.jobs_per_second:>12.0f}{stack.worker_cpu_ms_per_job:>14.2f}",
        f"{'ratio (promised: >= 1, <= 1)':<34}{result.throughput_ratio:>12.2f}{result.cpu_ratio:>14.2f}",
        "",
        "Where the stack's CPU goes, ms per job, by process:",
    ]
    by_cost = sorted(stack.cpu_ms_per_job.items(), key=lambda item: -item[1])
    lines += [f"  {name:<32}{cost:>26.2f}" for name, cost in by_cost]
    lines += ["", "A job's steps, each walked alone in one process, CPU ms per job:"]
    lines += [f"  {step.name:<32}{step.cpu_ms:>26.2f}" for step in result.steps]
    walked = sum(step.cpu_ms for step in result.steps)
    rest = stack.worker_cpu_ms_per_job - walked
    lines += [f"  {'Celery, the loop and the rest':<32}{rest:>26.2f}"]
    return lines
