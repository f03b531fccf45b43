"""A real `celery worker` as a subprocess on a broker database of its own, and what it left in Redis."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import redis

from schemas.ids import JobId
from schemas.job import Published
from schemas.lanes import Lane
from stack.children import wait_until
from tasks.dispatch.celery_app import celery_app
from tasks.dispatch.publisher import RUN_TASK, message

CHECKOUT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 20.0


def until(condition: Callable[[], object], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Poll until the condition holds; fails with `what` it was about."""
    assert wait_until(lambda: bool(condition()), seconds=seconds), f"not in {seconds} s: {what}"


class Broker:
    """One Redis database: publishes, counts, and reads what the fake services noted."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis: Any = redis.Redis.from_url(url, decode_responses=True)
        self.app = celery_app(url)
        self.app.conf.update(result_backend=url)
        self.redis.flushdb()

    def publish(self, lane: Lane, ids: Sequence[str], slice_size: int = 1) -> None:
        """Put jobs onto a lane, pipelined as the publisher does."""
        with self.app.producer_or_acquire() as producer, producer.batch(max_size=500):
            for start in range(0, len(ids), slice_size):
                jobs = [Published(job_id=JobId(one), generation=0) for one in ids[start : start + slice_size]]
                self.app.send_task(
                    RUN_TASK,
                    args=[message(jobs)],
                    queue=lane.queue,
                    producer=producer,
                    retry=False,
                    ignore_result=True,
                )

    def noted(self, key: str) -> Mapping[str, float]:
        """A hash of job id to number."""
        return {name: float(value) for name, value in self.redis.hgetall(key).items()}

    def unacknowledged(self) -> int:
        return int(self.redis.hlen("unacked"))

    def waiting(self) -> int:
        return sum(int(self.redis.llen(lane.queue)) for lane in Lane)

    def close(self) -> None:
        self.app.backend.client.close()
        self.app.close()
        self.redis.close()


class WorkerProcess:
    """Start it, wait for it, signal it; its log is kept."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
        self.process, self._log = process, log

    @classmethod
    def start(
        cls,
        broker: Broker,
        *lanes: Lane,
        app: str = "tests.support.worker_app",
        words: Sequence[str] = (),
        **env: object,
    ) -> Self:
        """Start a worker for these lanes (all unless said) and wait until its services are open and it consumes."""
        queues = ",".join(lane.queue for lane in (lanes or tuple(Lane)))
        log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        opened = int(broker.redis.get("test:opened") or 0)
        command = ["-m", "celery", "-A", app, "worker", "-n", f"w{time.monotonic_ns()}@%h", "-Q", queues]
        process = subprocess.Popen(
            [sys.executable, *command, "--without-gossip", "--without-mingle", *words],
            cwd=CHECKOUT,
            env={
                **os.environ,
                "PENSTOCK_REDIS_URL": broker.url,
                "PENSTOCK_DATABASE_URL": "postgresql://unused",
                **{name: str(value) for name, value in env.items()},
            },
            stdout=log,
            stderr=log,
        )
        worker = cls(process, log)
        until(
            lambda: process.poll() is not None or b"ready" in worker.log_bytes(),
            "the worker is ready",
        )
        assert process.poll() is None, worker.log()
        assert int(broker.redis.get("test:opened") or 0) == opened + 1
        return worker

    def log_bytes(self) -> bytes:
        return os.pread(self._log.fileno(), 1_000_000, 0)

    def log(self) -> str:
        return self.log_bytes().decode(errors="replace")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = DEADLINE_SECONDS) -> int:
        return self.process.wait(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if kind is not None:
            print(self.log())  # noqa: T201 - shown by pytest with the failure
        self._log.close()
