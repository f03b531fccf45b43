"""Reads docstrings, attribute docstrings and messages from the syntax tree of the product's modules."""

import ast
import inspect
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[3]


def tree_of(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


def product_trees(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    """Name and tree of each module of these packages, or of all that pyproject.toml names, in order."""
    for package in sorted(packages or _installed_packages()):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__"), _parsed(path)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _installed_packages() -> list[str]:
    packages: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "packages"
    ]
    return packages


def class_in(tree: ast.Module, name: str) -> ast.ClassDef:
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def attribute_docs(node: ast.Module | ast.ClassDef) -> dict[str, str]:
    """The strings that stand under assignments, by the names that are assigned."""
    docs = {}
    for statement, following in zip(node.body, node.body[1:], strict=False):
        text = string_of(following.value) if isinstance(following, ast.Expr) else None
        for name in _assigned(statement) if text is not None else ():
            docs[name] = inspect.cleandoc(text or "")
    return docs


def _assigned(statement: ast.stmt) -> list[str]:
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = [
            name
            for target in statement.targets
            for name in (target.elts if isinstance(target, ast.Tuple) else [target])
        ]
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def string_of(node: ast.expr | None) -> str | None:
    """The text of a string literal, else None."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def refusals(node: ast.Module | ast.ClassDef, error: str) -> list[str]:
    """The messages that `error` is raised with inside the node; what is filled in at run time is `…`."""
    calls = [raised.exc for raised in ast.walk(node) if isinstance(raised, ast.Raise)]
    raised = [call for call in calls if isinstance(call, ast.Call) and ast.unparse(call.func) == error and call.args]
    return [text for call in sorted(raised, key=lambda call: call.lineno) if (text := _message(call.args[0]))]


def _message(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(string_of(part) or "…" for part in node.values)
    return string_of(node) or ""
