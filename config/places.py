"""Finds the line of a key in a TOML file, for error messages."""

import re
import tomllib
from collections import Counter
from typing import Any


def line_of(text: str, loc: tuple[str | int, ...]) -> int | None:
    """Return the line of the key at `loc`, else of its table, else None."""
    sections = _sections(text)
    matching = [(len(head), number, head) for number, head in sections if loc[: len(head)] == head[: len(loc)]]
    if not loc or not matching:
        return None
    length, start, head = max(matching, key=lambda section: (min(section[0], len(loc)), -section[1]))
    if length >= len(loc):
        return start or None
    end = next((number for number, _ in sections if number > start), len(text.splitlines()) + 1)
    key = re.compile(rf'^\s*["\']?{re.escape(str(loc[len(head)]))}["\']?\s*[=.]')
    inside = enumerate(text.splitlines()[start : end - 1], start + 1)
    return next((number for number, line in inside if key.match(line)), start or None)


def _sections(text: str) -> list[tuple[int, tuple[str | int, ...]]]:
    """Lines before all headers form a nameless table."""
    sections: list[tuple[int, tuple[str | int, ...]]] = [(0, ())]
    arrays: Counter[tuple[str, ...]] = Counter()
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[\[?[^\]]+\]\]?)\s*(#.*)?$", line)
        names = _names(header[1]) if header else None
        if header is None or names is None:
            continue
        if header[1].startswith("[["):
            sections.append((number, (*names, arrays[names])))
            arrays[names] += 1
        else:
            sections.append((number, names))
    return sections


def _names(header: str) -> tuple[str, ...] | None:
    try:
        table: Any = tomllib.loads(header)
    except tomllib.TOMLDecodeError:
        return None
    names: list[str] = []
    while isinstance(table, dict) and table:
        [(name, table)] = table.items()
        names.append(name)
    return tuple(names)
