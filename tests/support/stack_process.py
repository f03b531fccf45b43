"""A whole running penstock for acceptance tests: `penstock up` as a process, in a home of its own, against a provider.

with StackProcess.started(home, provider=simulator) as stack:
    client = stack.openai()
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import psycopg
from psycopg.rows import dict_row

from cli.client.address import Address
from cli.client.http import ApiClient
from stack.children import last_lines, wait_until
from stack.home import free_port
from stack.status import Connection, ProcessStatus, read_connection, read_status
from tests.support.simulator_process import CHECKOUT, SimulatorProcess

READY_SECONDS = 180.0
"""Several times what it takes where other work keeps the machine busy."""

STOP_SECONDS = 60.0
CONFIG = """\
[models."gpt-4.1-mini"]
requests_per_minute = 600000
tokens_per_minute = 2000000000
[models."gpt-4.1"]
requests_per_minute = 600000
tokens_per_minute = 2000000000
[aliases]
small = ["gpt-4.1-mini"]
large = ["gpt-4.1"]
[[budgets]]
scope = "global"
window = "day"
limit_usd = "1000"
"""


@dataclass(frozen=True, kw_only=True)
class StackProcess:
    """One `penstock up`, ready to be spoken to as its operator."""

    home: Path
    process: subprocess.Popen[bytes]
    connection: Connection
    key: str

    @classmethod
    @contextmanager
    def started(
        cls,
        home: Path,
        *,
        provider: SimulatorProcess | None,
        config: str = CONFIG,
        env: Mapping[str, str] | None = None,
        descriptors: int | None = None,
    ) -> Iterator["StackProcess"]:
        """Start everything, wait until it is ready, stop it cleanly at the end.

        Without a provider, the simulator that `penstock up` starts where it is given none.
        `descriptors` is the limit of open files, soft and hard, under which all of it runs.
        """
        home.mkdir(parents=True, exist_ok=True)
        (home / "test.toml").write_text(config)
        port = free_port()
        log_path = home / "up.log"
        with log_path.open("wb") as log:
            limited = [] if descriptors is None else ["/bin/sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh"]
            process = subprocess.Popen(
                [*limited, sys.executable, "-m", "cli", "up", "--home", str(home), "--port", str(port), "--quiet"],
                cwd=CHECKOUT,
                env=os.environ | _environment(home, provider) | dict(env or {}),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield cls._when_ready(home, process, f"http://127.0.0.1:{port}", log_path)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise

    @classmethod
    def _when_ready(cls, home: Path, process: "subprocess.Popen[bytes]", url: str, log_path: Path) -> "StackProcess":
        def is_ready() -> bool:
            if process.poll() is not None:
                return True
            return ApiClient(Address(url=url, key="")).is_ready() and read_connection(home) is not None

        ready = wait_until(is_ready, seconds=READY_SECONDS)
        connection = read_connection(home)
        if not ready or process.poll() is not None or connection is None:
            process.kill()
            raise AssertionError(f"the stack did not start:\n{last_lines(log_path)}")
        key = Path(connection.admin_key_file or os.devnull).read_text("utf-8").strip()
        return cls(home=home, process=process, connection=connection, key=key)

    @property
    def url(self) -> str:
        return self.connection.url

    @property
    def api(self) -> ApiClient:
        """The native resources, as the operator."""
        return ApiClient(Address(url=self.url, key=self.key))

    def openai(self, **options: Any) -> openai.OpenAI:  # noqa: ANN401 - whatever the SDK takes
        """The official client; only base URL and key are ours."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=options.pop("api_key", self.key), **options)

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Look into Postgres as a stranger would."""
        with psycopg.connect(self.connection.database_url, row_factory=dict_row) as connection:
            return connection.execute(query, parameters).fetchall()

    def ledger_nano_usd(self) -> int:
        return int(self.rows("SELECT COALESCE(sum(nano_usd), 0) AS total FROM ledger")[0]["total"])

    def named(self, name: str) -> ProcessStatus:
        status = read_status(self.home)
        assert status is not None
        return next(process for process in status.processes if process.name == name)

    def kill(self, name: str) -> None:
        """Kill one process with -9; the supervisor starts it again."""
        pid = self.named(name).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def logs(self, name: str) -> str:
        return last_lines(self.home / "logs" / f"{name}.log")


def _environment(home: Path, provider: SimulatorProcess | None) -> dict[str, str]:
    return {
        "PENSTOCK_CONFIG": str(home / "test.toml"),
        "OPENAI_BASE_URL": provider.base_url if provider else "",
        "OPENAI_API_KEY": "simulated" if provider else "",
        "PENSTOCK_LEASE_SECONDS": "3",
        "PENSTOCK_HEARTBEAT_SECONDS": "1",
    }
