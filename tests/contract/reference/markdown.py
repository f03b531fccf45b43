"""Renders headings, tables and lists as Markdown, with lines of at most 120 characters outside tables."""

import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 120
NOTICE = "Generated from the source by `scripts/reference`. Do not edit it; change the docstring and run the command."


def page(title: str, *blocks: str) -> str:
    """A page with its notice; empty blocks are left out."""
    return "\n\n".join([f"# {title}", NOTICE, *(block for block in blocks if block)]) + "\n"


def heading(text: str, level: int = 2) -> str:
    return f"{'#' * level} {text}"


def code(value: object) -> str:
    return f"`{value}`"


def codes(values: Iterable[object]) -> str:
    return ", ".join(code(value) for value in values)


def prose(text: str) -> str:
    """Paragraphs, each wrapped by itself."""
    return "\n\n".join(_wrapped(paragraph) for paragraph in _paragraphs(text))


def item(term: str, text: str = "") -> str:
    """A list item; the paragraphs of its text are joined."""
    line = " ".join(_paragraphs(text))
    return _wrapped(f"- {term}: {line}" if line else f"- {term}", indent="  ")


def items(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(item(term, text) for term, text in pairs)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; nothing where there are no rows."""
    filled = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [_row(columns), _row(["---"] * len(columns)), *(_row(row) for row in filled)]
    return "\n".join(lines) if filled else ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def _paragraphs(text: str) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]


def _wrapped(text: str, indent: str = "") -> str:
    lines = textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)
