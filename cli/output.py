"""Prints tables for people, tab-separated lines for pipes, or JSON.

Only results go to stdout, so that `$(penstock submit FILE)` is a batch id.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from textwrap import indent
from typing import BinaryIO

from rich.console import Console
from rich.table import Table

from schemas.jsons import JsonObject
from schemas.money import nano_from_usd, usd_text


def show_rows(rows: Iterable[JsonObject], columns: Sequence[str], *, as_json: bool) -> None:
    """Print a listing. Tables omit columns that no row has."""
    listed = list(rows)
    if as_json:
        show_json(listed)
        return
    present = [name for name in columns if any(name in row for row in listed)]
    if not listed:
        remark("nothing to show")
    elif sys.stdout.isatty():
        table = Table(*present, box=None, header_style="bold", pad_edge=False)
        for row in listed:
            table.add_row(*(cell(row.get(name)) for name in present))
        Console().print(table)
    else:
        say("\t".join(present))
        for row in listed:
            say("\t".join(cell(row.get(name)) for name in present))


def show_object(shown: JsonObject, *, as_json: bool) -> None:
    """Print one resource, as JSON or one line per field."""
    if as_json:
        show_json(shown)
        return
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        if isinstance(value, dict | list) and value:
            say(f"{name}:")
            say(indent(json.dumps(value, indent=2, ensure_ascii=False), "  "))
        else:
            say(f"{name:<{width}}  {cell(value)}")


def binary_target(path: Path | None) -> AbstractContextManager[BinaryIO]:
    """Open a file for writing, or stdout, which stays open."""
    return nullcontext(sys.stdout.buffer) if path is None else path.open("wb")


def show_json(value: object) -> None:
    """Print one JSON document."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def cell(value: object) -> str:
    """Format one value on one line."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case dict() | list():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return " ".join(str(value).split())


def dollars(amount_usd: str) -> str:
    """Format dollars with four decimal places."""
    return usd_text(nano_from_usd(amount_usd))[:-5]


def say(line: str) -> None:
    """Print a result."""
    print(line, flush=True)  # noqa: T201 - this is the command line's voice


def remark(line: str) -> None:
    """Print a remark to stderr."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - the same


class ProgressLines:
    """Writes a line that has changed: one every so many seconds, and the last."""

    def __init__(self, every_seconds: float, write: Callable[[str], None]) -> None:
        self._every_seconds, self._write = every_seconds, write
        self._written, self._written_at = "", float("-inf")

    def show(self, line: str, *, is_last: bool = False) -> None:
        """Write the line, unless it is the same or too early."""
        now = time.monotonic()
        if line != self._written and (is_last or now - self._written_at >= self._every_seconds):
            self._write(line)
            self._written, self._written_at = line, now
