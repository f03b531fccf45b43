"""Runs `penstock up` as a child process."""

import http.client
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from signal import SIGTERM

from stack.children import ServerFailed, end, last_lines, spawn, wait_until
from stack.home import free_port
from stack.status import Connection, read_connection

CHECKOUT = Path(__file__).resolve().parent.parent
PREFERRED_PORT = 8080
READY_SECONDS = 180.0
STOP_SECONDS = 60.0
PROBE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class RunningStack:
    """A ready stack and its operator's key."""

    port: int
    key: str
    connection: Connection


@contextmanager
def running_stack(home: Path, env: Mapping[str, str], *, workers: int = 1) -> Iterator[RunningStack]:
    """Run a stack until the end of the block. Raises ServerFailed."""
    home.mkdir(parents=True, exist_ok=True)
    port, log_path = free_port(PREFERRED_PORT) or free_port(), home / "up.log"
    if port is None:
        raise ServerFailed("no port is free on this machine")
    arguments = ["up", "--home", str(home.absolute()), "--port", str(port), "--workers", str(workers), "--quiet"]
    with ExitStack() as endings:
        process = started(["-m", "cli", *arguments], env=env, log_path=log_path, endings=endings)
        connection = _wait_ready(process, home, port, log_path)
        yield RunningStack(port=port, key=_key(connection, env), connection=connection)


def started(
    arguments: list[str], *, env: Mapping[str, str], log_path: Path, endings: ExitStack
) -> subprocess.Popen[bytes]:
    """Start Python, and stop it when `endings` closes or this process is killed."""
    log_path.unlink(missing_ok=True)
    process = spawn([sys.executable, *arguments], env=env, log_path=log_path, cwd=CHECKOUT, death_signal=SIGTERM)
    endings.callback(end, process, stop_signal=SIGTERM, grace_seconds=STOP_SECONDS)
    return process


def _wait_ready(process: subprocess.Popen[bytes], home: Path, port: int, log_path: Path) -> Connection:
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        connection = read_connection(home)
        return connection is not None and connection.url == url and _answers(port)

    in_time = wait_until(lambda: process.poll() is not None or is_ready(), seconds=READY_SECONDS)
    connection = read_connection(home)
    if process.poll() is not None or not in_time or connection is None:
        happened = "did not start" if process.poll() is not None else f"was not ready after {READY_SECONDS:.0f} s"
        raise ServerFailed(f"the stack {happened}; the end of {log_path}:\n{last_lines(log_path)}")
    return connection


def _answers(port: int) -> bool:
    probe = http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_SECONDS)
    with closing(probe), suppress(OSError, http.client.HTTPException):
        probe.request("GET", "/readyz")
        return probe.getresponse().status == HTTPStatus.OK
    return False


def _key(connection: Connection, env: Mapping[str, str]) -> str:
    return env.get("PENSTOCK_ADMIN_KEY") or Path(connection.admin_key_file or os.devnull).read_text("utf-8").strip()
