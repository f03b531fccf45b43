"""Writes and reads the status of a running stack in its home.

Only the lock shows whether it runs; the files survive a kill -9.
"""

import contextlib
import os
import signal
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from stack.children import wait_until
from stack.home import Home, write_private

Phase = Literal["starting", "running", "stopping"]
ProcessState = Literal["running", "backing_off", "stopped"]

STATUS_FILE = "status.json"
CONNECTION_FILE = "connection.json"


class ProcessStatus(BaseModel, frozen=True):
    """One supervised process."""

    name: str
    pid: int | None
    state: ProcessState
    restarts: int
    up_since: float | None  # seconds since 1970


class StackStatus(BaseModel, frozen=True):
    """The supervisor and its processes."""

    pid: int
    phase: Phase
    started_at: float  # seconds since 1970
    processes: tuple[ProcessStatus, ...]


class Connection(BaseModel, frozen=True):
    """Addresses with passwords, so the file is private."""

    url: str
    redis_url: str
    database_url: str
    simulator_url: str | None  # None when a real provider is called
    flower_url: str | None
    admin_key_file: str | None  # None when PENSTOCK_ADMIN_KEY was given: it is not copied


def write_status(home: Home, status: StackStatus) -> None:
    """Replace the status file."""
    write_private(home.root / STATUS_FILE, status.model_dump_json(indent=2))


def forget_connection(home: Home) -> None:
    """Remove the predecessor's addresses."""
    (home.root / CONNECTION_FILE).unlink(missing_ok=True)


def write_connection(home: Home, connection: Connection) -> None:
    """Replace the connection file."""
    write_private(home.root / CONNECTION_FILE, connection.model_dump_json(indent=2))


def read_status(home_path: Path) -> StackStatus | None:
    """Return the status of this home's running stack."""
    home = Home(home_path)
    holder_pid = home.holder_pid()
    try:
        status = StackStatus.model_validate_json((home.root / STATUS_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return status if status.pid == holder_pid else None  # else it belongs to a predecessor that was killed


def read_connection(home_path: Path) -> Connection | None:
    """Return the addresses of this home's stack, also after it stopped."""
    try:
        return Connection.model_validate_json((Home(home_path).root / CONNECTION_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def down(home_path: Path, *, wait_seconds: float = 60.0) -> bool:
    """Stop this home's stack and wait. Returns False when none ran or it still runs."""
    home = Home(home_path)
    holder_pid = home.holder_pid()
    if holder_pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(holder_pid, signal.SIGTERM)
    return wait_until(lambda: home.holder_pid() != holder_pid, seconds=wait_seconds)
