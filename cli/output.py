"""What a command prints: tables for people, tab-separated lines for pipes, JSON when asked. No colours in a pipe.

Results go to stdout, remarks to stderr, so that `$(penstock submit FILE)` is a batch id and nothing else.
"""

import json
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from schemas.jsons import JsonObject
from schemas.money import NanoUsd, usd_text


def show_rows(rows: Iterable[JsonObject], columns: Sequence[str], *, as_json: bool) -> None:
    """Print a listing. JSON has every field; a table has the named columns that any row knows."""
    listed = list(rows)
    if as_json:
        show_json(listed)
        return
    known = [name for name in columns if any(name in row for row in listed)]
    if not listed:
        remark("nothing to show")
    elif sys.stdout.isatty():
        table = Table(*known, box=None, header_style="bold", pad_edge=False)
        for row in listed:
            table.add_row(*(cell(row.get(name)) for name in known))
        Console().print(table)
    else:
        say("\t".join(known))
        for row in listed:
            say("\t".join(cell(row.get(name)) for name in known))


def show_object(shown: JsonObject, *, as_json: bool) -> None:
    """Print one resource: as JSON, or a line per field with nested values indented below."""
    if as_json:
        show_json(shown)
        return
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        if isinstance(value, dict | list) and value:
            say(f"{name}:")
            say(_indented(json.dumps(value, indent=2, ensure_ascii=False)))
        else:
            say(f"{name:<{width}}  {cell(value)}")


def show_json(value: object) -> None:
    """Print one JSON document."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def cell(value: object) -> str:
    """One value as a word on one line."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case dict() | list():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return " ".join(str(value).split())


def dollars(amount_nano_usd: int) -> str:
    """Dollars with four places for people; the JSON has all nine."""
    return usd_text(NanoUsd(amount_nano_usd))[:-5]


def say(line: str) -> None:
    """Print a result."""
    print(line, flush=True)  # noqa: T201 - this is the command line's voice


def remark(line: str) -> None:
    """Print a remark for people, apart from the results."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - the same


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
