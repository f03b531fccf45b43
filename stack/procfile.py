"""Parses a Procfile: one `name: command` per line.

`release` runs once before the others. Each command finds its name in PENSTOCK_PROCESS.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.errors import InvalidSetting

RELEASE = "release"
LINE = re.compile(r"^(?P<name>[A-Za-z0-9_-]+):\s*(?P<command>\S.*)$")


@dataclass(frozen=True, kw_only=True)
class ProcessLine:
    """One line of a Procfile."""

    name: str
    command: str


@dataclass(frozen=True, kw_only=True)
class Procfile:
    """The release command, if any, and the processes."""

    release: ProcessLine | None
    processes: tuple[ProcessLine, ...]


def parse_procfile(text: str) -> Procfile:
    """Parse a Procfile. Raises InvalidSetting with the number of the wrong line."""
    lines = [
        _parse_line(number, line.strip())
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    names = [line.name for line in lines]
    for name in names:
        if names.count(name) > 1:
            raise InvalidSetting(f"the Procfile names '{name}' twice", param="Procfile")
    return Procfile(
        release=next((line for line in lines if line.name == RELEASE), None),
        processes=tuple(line for line in lines if line.name != RELEASE),
    )


def _parse_line(number: int, line: str) -> ProcessLine:
    match = LINE.match(line)
    if match is None:
        raise InvalidSetting(f"line {number} of the Procfile is not `name: command`: {line}", param="Procfile")
    return ProcessLine(name=match["name"], command=match["command"])


def multiply(processes: Sequence[ProcessLine], counts: Mapping[str, int]) -> tuple[ProcessLine, ...]:
    """Repeat the named processes as `name-1` to `name-N`."""
    return tuple(
        ProcessLine(name=name, command=line.command)
        for line in processes
        for name in _names(line.name, counts.get(line.name))
    )


def _names(name: str, count: int | None) -> list[str]:
    return [name] if count is None else [f"{name}-{number}" for number in range(1, count + 1)]
