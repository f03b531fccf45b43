"""The home folder: all files of one installation, and its lock.

    HOME/ (0700)   lock   ports.json   status.json   connection.json   secrets/   logs/   run/   valkey/   postgres/

At most one process tree writes below a home: Valkey does not lock its own folder. An flock ends with its holder.
"""

import fcntl
import json
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from schemas.errors import InvalidSetting, PenstockError

PRIVATE_FOLDER_MODE = 0o700
PRIVATE_FILE_MODE = 0o600
OTHERS_BITS = 0o077
SECRET_BYTES = 24


class HomeInUse(PenstockError):  # noqa: N818 - reads as what happened
    """Another penstock is running in this home folder; stop it with `penstock down` or choose another --home."""

    code = "home_in_use"


class Home:
    """One home folder, which `locked()` creates."""

    def __init__(self, path: Path) -> None:
        self.root = path.absolute()
        self.logs = self.root / "logs"
        self.run = self.root / "run"
        self.secrets = self.root / "secrets"
        self.valkey = self.root / "valkey"
        self.postgres = self.root / "postgres"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create and lock this home. Raises HomeInUse while another holder has it."""
        self._create_folders()
        with (self.root / "lock").open("a") as lock:
            if not _try_lock(lock):
                raise HomeInUse(
                    f"another penstock is running in {self.root}; "
                    "stop it with `penstock down` or choose another folder with --home"
                )
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def holder_pid(self) -> int | None:
        """Return the process that holds the lock, this one included."""
        path = self.root / "lock"
        if not path.exists():
            return None
        with path.open("a+") as lock:
            if _try_lock(lock):
                return None
            lock.seek(0)
            return int(lock.read() or 0) or None

    def secret(self, name: str) -> str:
        """Return a secret, generated at first use. Raises InvalidSetting for a file that others own or can read."""
        path = self.secrets / name
        if not path.is_symlink() and not path.exists():
            write_private(path, secrets.token_hex(SECRET_BYTES))
        _require_private(path)
        return path.read_text(encoding="utf-8").strip()

    def port_for(self, name: str, *, preferred: int | None = None) -> int:
        """Return this name's last port if free, else the preferred one, else a new one."""
        ports = self._ports()
        candidates = [candidate for candidate in (ports.get(name), preferred) if candidate is not None]
        port = next(free for candidate in (*candidates, None) if (free := free_port(candidate)) is not None)
        write_private(self.root / "ports.json", json.dumps(ports | {name: port}, indent=2))
        return port

    def log_path(self, name: str) -> Path:
        """Return the log of a child."""
        return self.logs / f"{name}.log"

    def _ports(self) -> dict[str, int]:
        try:
            ports: dict[str, int] = json.loads((self.root / "ports.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return ports

    def _create_folders(self) -> None:
        try:
            for folder in (self.root, self.logs, self.run, self.secrets, self.valkey, self.postgres):
                folder.mkdir(mode=PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
            for folder in (self.root, self.secrets):
                folder.chmod(PRIVATE_FOLDER_MODE)
        except OSError as trouble:
            raise InvalidSetting(
                f"the home folder {self.root} cannot be used ({trouble.strerror}); "
                "choose a folder of your own with --home",
                param="home",
            ) from trouble


def _require_private(path: Path) -> None:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        raise InvalidSetting(
            f"{path} is no file of yours, so whoever made it knows what is in it; "
            "remove it, or choose a folder of your own with --home",
            param="home",
        )
    if status.st_mode & OTHERS_BITS:
        raise InvalidSetting(
            f"{path} can be read by others, so it is no secret; make a new one in its place, or `chmod 600` it",
            param="home",
        )


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically; only its owner can read it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE_MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # a secret emptied by a crash would lock us out of our own data
    fresh.replace(path)


def free_port(wished: int | None = None) -> int | None:
    """Return the wished port if free, else None; any free port without a wish."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wished or 0))
        except OSError:
            return None
        port: int = probe.getsockname()[1]
        return port
