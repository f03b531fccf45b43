"""`penstock up` in a process of its own, for commands that show or measure a whole stack and end it again."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

from cli.address import Address
from cli.door import Door
from cli.errors import DoorFailed
from stack.children import end, last_lines, spawn, wait_until
from stack.home import free_port
from stack.status import Connection, read_connection

CHECKOUT = Path(__file__).resolve().parent.parent
PREFERRED_PORT = 8080
READY_SECONDS = 180.0
STOP_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class RunningStack:
    """A stack that is ready, and the door to it as its operator."""

    door: Door
    flower_url: str | None


@contextmanager
def running_stack(home: Path, env: Mapping[str, str], *, workers: int = 1) -> Iterator[RunningStack]:
    """Start it, wait until it is ready, and stop it at the end. Raises DoorFailed with the end of its log."""
    home.mkdir(parents=True, exist_ok=True)
    port, log_path = free_port(PREFERRED_PORT) or free_port(), home / "up.log"
    words = ["up", "--home", str(home.absolute()), "--port", str(port), "--workers", str(workers), "--quiet"]
    with ExitStack() as endings:
        process = started(["-m", "cli", *words], env=env, log_path=log_path, endings=endings)
        connection = _wait_ready(process, home, f"http://127.0.0.1:{port}", log_path)
        yield RunningStack(door=_door(connection, env), flower_url=connection.flower_url)


def started(
    arguments: list[str], *, env: Mapping[str, str], log_path: Path, endings: ExitStack
) -> subprocess.Popen[bytes]:
    """Start Python with these words; it is asked to stop when `endings` close, and when we are killed."""
    log_path.unlink(missing_ok=True)
    process = spawn([sys.executable, *arguments], env=env, log_path=log_path, cwd=CHECKOUT, death_signal=SIGTERM)
    endings.callback(end, process, stop_signal=SIGTERM, grace_seconds=STOP_SECONDS)
    return process


def _wait_ready(process: subprocess.Popen[bytes], home: Path, url: str, log_path: Path) -> Connection:
    found: list[Connection] = []

    def is_ready() -> bool:
        connection = read_connection(home)
        if process.poll() is not None or connection is None or connection.url != url:
            return process.poll() is not None
        if Door(Address(url=url, key="")).is_ready():
            found.append(connection)
        return bool(found)

    wait_until(is_ready, seconds=READY_SECONDS)
    if not found:
        happened = "did not start" if process.poll() is not None else f"was not ready after {READY_SECONDS:.0f} s"
        raise DoorFailed(f"the stack {happened}; the end of {log_path}:\n{last_lines(log_path)}")
    return found[0]


def _door(connection: Connection, env: Mapping[str, str]) -> Door:
    key = env.get("PENSTOCK_ADMIN_KEY") or Path(connection.admin_key_file or os.devnull).read_text("utf-8").strip()
    return Door(Address(url=connection.url, key=key))
