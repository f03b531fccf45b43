"""Records in a file which job's synchronous step runs, to attribute a process's death.

Each process maps and locks one file below HOME/marks; a mark costs two stores. An unlocked file is a dead process's.
Only steps between two awaits are marked, so one at a time.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import structlog

log = structlog.get_logger()

FOLDER, SUFFIX = "marks", ".mark"
FIELD_BYTES = 512
"""Each of two fields (job id, holder): a length in two bytes and UTF-8."""

LENGTH = struct.Struct("<H")
NO_JOB = LENGTH.pack(0)

Marking: TypeAlias = Callable[[str], AbstractContextManager[None]]
"""Enters a job's context, in which `synchronous_step` marks it."""

_NOTHING: AbstractContextManager[None] = nullcontext()
_step: ContextVar[AbstractContextManager[None]] = ContextVar("synchronous_step", default=_NOTHING)


def synchronous_step() -> AbstractContextManager[None]:
    """Mark this task's job within the block. No await inside."""
    return _step.get()


@dataclass(frozen=True, kw_only=True, slots=True)
class LastMark:
    """A dead process's lease holder name, and its running job, if any."""

    holder: str
    job_id: str | None


class _Mark:
    __slots__ = ("_field", "_page")

    def __init__(self, page: mmap.mmap, job_id: str) -> None:
        self._page, self._field = page, _field(job_id)

    def __enter__(self) -> None:
        self._page[: len(self._field)] = self._field

    def __exit__(self, *_: object) -> None:
        self._page[:2] = NO_JOB


class _Marked:
    """A class, because a generator costs twice as much per job."""

    __slots__ = ("_mark", "_token")

    def __init__(self, mark: _Mark) -> None:
        self._mark = mark

    def __enter__(self) -> None:
        self._token = _step.set(self._mark)

    def __exit__(self, *_: object) -> None:
        _step.reset(self._token)


def mark_no_job(_job_id: str) -> AbstractContextManager[None]:
    """Mark nothing; a death then counts for every job of the process."""
    return _NOTHING


@contextmanager
def marks_of(home: Path, holder: str) -> Iterator[Marking]:
    """Mark in a file of this process; without a file, log a warning."""
    try:
        path, descriptor = _created(home / FOLDER, holder)
    except OSError as error:
        log.warning("marks_off", consequence="deaths count for every job of a process", reason=str(error))
        yield mark_no_job
        return
    with mmap.mmap(descriptor, 2 * FIELD_BYTES) as page:
        try:
            yield lambda job_id: _Marked(_Mark(page, job_id))
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)


@contextmanager
def last_marks(home: Path) -> Iterator[list[LastMark]]:
    """Read the marks of dead processes, locked within the block. Safe to run twice.

    Their files are deleted at its end unless it raises.
    """
    left: dict[Path, int] = {}
    try:
        for path in _paths(home / FOLDER):
            descriptor = _locked(path)
            if descriptor is not None:
                left[path] = descriptor
        yield [mark for descriptor in left.values() if (mark := _read(descriptor)) is not None]
        for path in left:
            path.unlink(missing_ok=True)
    finally:
        for descriptor in left.values():
            os.close(descriptor)


def _created(folder: Path, holder: str) -> tuple[Path, int]:
    """Locks the file before another process can find it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{holder.replace('/', '_')}{SUFFIX}"
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.truncate(descriptor, 2 * FIELD_BYTES)
        os.pwrite(descriptor, _field(holder), FIELD_BYTES)
        fresh.rename(path)
    except OSError:
        os.close(descriptor)
        fresh.unlink(missing_ok=True)
        raise
    return path, descriptor


def _paths(folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder) if entry.name.endswith(SUFFIX)]
    except OSError:  # no process has written here yet, or none can
        return []


def _locked(path: Path) -> int | None:
    """Returns None if another process has the lock or the file is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink > 0:
            return descriptor
    os.close(descriptor)
    return None


def _read(descriptor: int) -> LastMark | None:
    job_id, holder = _text(os.pread(descriptor, FIELD_BYTES, 0)), _text(os.pread(descriptor, FIELD_BYTES, FIELD_BYTES))
    return LastMark(holder=holder, job_id=job_id or None) if holder else None


def _field(text: str) -> bytes:
    raw = text.encode()[: FIELD_BYTES - LENGTH.size]
    return LENGTH.pack(len(raw)) + raw


def _text(field: bytes) -> str:
    [length] = LENGTH.unpack_from(field.ljust(LENGTH.size, b"\0"))
    return field[LENGTH.size : LENGTH.size + length].decode(errors="replace").replace("\0", "")
