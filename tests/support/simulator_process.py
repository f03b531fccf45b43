"""The simulator as a subprocess on a free loopback port, for tests that need a provider.

with SimulatorProcess.start(latency="fixed:0", scenarios={"throttle": 0.1}) as provider:
    client = AsyncOpenAI(base_url=provider.base_url, api_key="any")
    ...
    assert provider.meter()["bill_nano_usd"] == ours
"""

import http.client
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

CHECKOUT = Path(__file__).resolve().parents[2]
START_WITHIN_SECONDS = 20.0
STOP_WITHIN_SECONDS = 5.0
ASK_WITHIN_SECONDS = 10.0
_MOST_LOG_BYTES = 100_000


class SimulatorProcess:
    """One running simulator. It dies with the test process."""

    def __init__(self, process: subprocess.Popen[str], log: IO[bytes], port: int) -> None:
        self._process, self._log, self.port = process, log, port

    @classmethod
    def start(
        cls,
        *more: str,
        port: int = 0,
        seed: int = 1,
        latency: str = "fixed:0",
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        scenarios: Mapping[str, float] | None = None,
        instant: bool = False,
    ) -> Self:
        """Start one and wait until it listens. `more` are further command-line words, given as they are."""
        words = ["--port", str(port), "--seed", str(seed), "--latency", latency, "--die-with-parent"]
        if requests_per_minute is not None:
            words += ["--requests-per-minute", str(requests_per_minute)]
        if tokens_per_minute is not None:
            words += ["--tokens-per-minute", str(tokens_per_minute)]
        for name, share in (scenarios or {}).items():
            words += ["--scenario", f"{name}={share}"]
        if instant:
            words.append("--instant")
        log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        process = subprocess.Popen(
            [sys.executable, "-m", "simulator", *words, *more],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        return cls(process, log, _port_when_listening(process, log))

    @property
    def url(self) -> str:
        """The root, where /meter and /scenarios are."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its base_url."""
        return f"{self.url}/v1"

    def meter(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", "/meter")
        return found

    def bills(self) -> dict[str, dict[str, Any]]:
        """What was billed, by x-client-request-id (by x-request-id where the client named none)."""
        return {bill["client_request_id"]: bill for bill in self.ask("GET", "/meter/bills")["data"]}

    def hits(self) -> dict[str, int]:
        """How often each x-client-request-id arrived, refused calls included."""
        found: dict[str, int] = self.ask("GET", "/meter/hits")
        return found

    def reset_meter(self) -> None:
        self.ask("POST", "/meter/reset")

    def set_scenarios(self, shares: Mapping[str, float]) -> None:
        """Replace all shares at once; an empty mapping makes the provider faultless."""
        self.ask("PUT", "/scenarios", dict(shares))

    def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - parsed JSON
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ASK_WITHIN_SECONDS)
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body))
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            raise ValueError(f"{method} {path}: {response.status} {text}")
        return json.loads(text)

    def complaints(self) -> str:
        """What it wrote to stderr so far; a healthy one writes nothing."""
        self._log.flush()
        return os.pread(self._log.fileno(), _MOST_LOG_BYTES, 0).decode(errors="replace")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()
        self._forget()

    def stop(self) -> int:
        """Ask it to end and return its exit code. Safe to call twice."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_WITHIN_SECONDS)
            if self._process.poll() is None:
                self._process.kill()
        return self._forget()

    def _forget(self) -> int:
        code = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _port_when_listening(process: subprocess.Popen[str], log: IO[bytes]) -> int:
    stdout = process.stdout
    if stdout is None:
        raise ValueError("the simulator was started without a pipe for its first line")
    give_up_at = time.monotonic() + START_WITHIN_SECONDS
    while time.monotonic() < give_up_at:
        if select.select([stdout], [], [], 0.1)[0]:
            line = stdout.readline()
            if line.startswith("listening on "):
                return int(line.rsplit(":", 1)[1])
        if process.poll() is not None:
            break
    process.kill()
    process.wait()
    log.seek(0)
    raise RuntimeError(f"the simulator did not start: {log.read().decode(errors='replace')}")
