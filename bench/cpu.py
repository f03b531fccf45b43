"""Reads CPU seconds and memory of processes from /proc, children included. Linux only."""

import os
from pathlib import Path

from schemas.errors import PenstockError

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_RESIDENT_PAGES = 21
PROC = Path("/proc")


class NoProc(PenstockError):  # noqa: N818 - reads as what is missing
    """The benchmark reads CPU times and memory from /proc, which this system does not have."""

    code = "no_proc"


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process and all its descendants, living or reaped. Raises NoProc."""
    if not PROC.is_dir():
        raise NoProc
    return sum(_own(found) for found in [pid, *_descendants(pid)])


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and all its descendants. Raises NoProc."""
    if not PROC.is_dir():
        raise NoProc
    stats = (_stat(found) for found in [pid, *_descendants(pid)])
    return sum(int(fields[_RESIDENT_PAGES]) * _PAGE_BYTES for fields in stats if fields)


def _own(pid: int) -> float:
    fields = _stat(pid)
    return sum(int(ticks) for ticks in fields[11:15]) / _TICKS if fields else 0.0


def _descendants(pid: int) -> list[int]:
    parents = {int(entry.name): _stat(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdigit()}
    found, looked_at = list[int](), [pid]
    while looked_at:
        parent = looked_at.pop()
        children = [child for child, fields in parents.items() if fields and int(fields[1]) == parent]
        found += children
        looked_at += children
    return found


def _stat(pid: int) -> list[str]:
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended meanwhile
        return []
    return text.rpartition(")")[2].split()
