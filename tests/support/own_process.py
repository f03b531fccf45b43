"""A process of the product, started as the Procfile starts it, on a free loopback port where it needs one."""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from schemas.lanes import Lane

CHECKOUT = Path(__file__).resolve().parents[2]
ANSWER_WITHIN_SECONDS = 30.0
STOP_WITHIN_SECONDS = 10.0
LOOK_SECONDS = 0.05
_MOST_LOG_BYTES = 100_000
_ESTABLISHED = "01"


class OwnProcess:
    """One running module. What it writes is kept, to be shown when it fails."""

    def __init__(self, module: str, env: Mapping[str, str], *words: str) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "OPENAI_"))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=CHECKOUT,
            env=kept | dict(env),
            stdout=self._log,
            stderr=self._log,
        )

    def said(self) -> str:
        """Everything that it wrote so far."""
        return os.pread(self._log.fileno(), _MOST_LOG_BYTES, 0).decode(errors="replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: float = ANSWER_WITHIN_SECONDS) -> int:
        """Its exit code, once it has ended."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End it as a crash would, without a word."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def stop(self) -> int:
        """Ask it to end, and return its exit code. Safe to call twice."""
        if self.is_alive:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_WITHIN_SECONDS)
        if self.is_alive:
            self._process.kill()
        return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._log.close()


class CeleryWorker(OwnProcess):
    """The Procfile's `standard` line: a worker of every lane."""

    def __init__(self, env: Mapping[str, str], app: str = "workers.app") -> None:
        lanes = ",".join(lane.queue for lane in Lane)
        words = ("-A", app, "worker", "-n", f"w{time.monotonic_ns()}@%h", "-Q", lanes)
        super().__init__("celery", env, *words, "--without-gossip", "--without-mingle")


class WebProcess(OwnProcess):
    """`python -m api`."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.port = _free_port()
        super().__init__("api", dict(env) | {"PENSTOCK_PORT": str(self.port)})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def established(self) -> int:
        """How many connections to it are open, as the kernel counts them."""
        rows = (line.split() for line in Path(f"/proc/{self.pid}/net/tcp").read_text().splitlines()[1:])
        return sum(1 for row in rows if row[1].endswith(f":{self.port:04X}") and row[3] == _ESTABLISHED)

    def until(self, path: str, status: int) -> Any:  # noqa: ANN401 - parsed JSON
        """Ask until the answer has this status; returns its body."""
        give_up_at, last = time.monotonic() + ANSWER_WITHIN_SECONDS, "no answer"
        while time.monotonic() < give_up_at and self.is_alive:
            try:
                got, text = self._get(path)
            except OSError as error:
                last = str(error)
            else:
                if got == status:
                    return json.loads(text)
                last = f"{got} {text}"
            time.sleep(LOOK_SECONDS)
        raise AssertionError(f"{path} did not come to {status}: {last}\n{self.said()}")

    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_WITHIN_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
