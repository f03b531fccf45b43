"""Names and docstrings of the product use the field's words: none of the metaphors that its first version had."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "admission",
    "api",
    "bench",
    "cli",
    "config",
    "providers",
    "schemas",
    "stack",
    "storage",
    "tasks",
    "workers",
)
METAPHORS = frozenset(
    {
        "house",
        "door",
        "rooms",
        "heart",
        "vigil",
        "treasury",
        "courtesy",
        "ear",
        "audience",
        "bell",
        "untold",
        "unheard",
        "heed",
        "heeding",
        "booking",
    }
)
"""The field says services, API, capacity, heartbeat, guard, budgets, yield, callback, wake-up, publish and settle."""


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Attribute(attr=name) | ast.Name(id=name):
                yield name
            case _:
                pass


def _docstrings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        for statement in getattr(node, "body", None) or () if not isinstance(node, ast.Lambda | ast.IfExp) else ():
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield text
                case _:
                    pass


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_uses_no_metaphors(package: str) -> None:
    found = set[str]()
    for path in sorted((CHECKOUT / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        place = path.relative_to(CHECKOUT)
        found |= {f"{place}: {name}" for name in (*_names(tree), path.stem) if _words(name) & METAPHORS}
        found |= {
            f"{place}: {word!r} in a docstring"
            for text in _docstrings(tree)
            for word in METAPHORS & set(re.findall(r"[a-z]+", re.sub(r"`[^`]*`", "", text.lower())))
        }

    assert found == set()
