"""Bounds the cost of compiling a schema. Pure.

The engine unfolds references below `unevaluatedProperties` and `unevaluatedItems`, so n parts can become 2^n.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from providers.contract.checkable import REFERENCES, objects_of
from schemas.jsons import JsonObject

MAX_UNFOLDED_PARTS = 5_000
"""Parts with references unfolded: some milliseconds of compiling."""

UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")
_ANCHORS = ("$anchor", "$dynamicAnchor")
_INDEX_DIGITS = 9


def unfolding_complaint(schema: JsonObject) -> str | None:
    """Return why this schema cannot be compiled within bounds; None if it can."""
    nodes = list(objects_of(schema))
    if not any(name in node for node in nodes for name in UNEVALUATED):
        return None
    if any(isinstance(node.get("$id"), str) and node is not schema for node in nodes):
        return "$id within a schema is not supported together with unevaluatedProperties or unevaluatedItems."
    anchors: dict[str, list[JsonObject]] = {}
    for node in nodes:
        for name in _ANCHORS:
            if isinstance(node.get(name), str):
                anchors.setdefault(node[name], []).append(node)
    if _unfolds_too_far(schema, anchors):
        return "its references unfold to too many parts for unevaluatedProperties or unevaluatedItems."
    return None


def _unfolds_too_far(schema: JsonObject, anchors: dict[str, list[JsonObject]]) -> bool:
    parts = 0
    path: list[int] = []
    on_path: set[int] = set()
    waiting: list[tuple[JsonObject, int]] = [(schema, 0)]
    while waiting:
        node, level = waiting.pop()
        while len(path) > level:
            on_path.discard(path.pop())
        if id(node) in on_path:
            continue
        parts += 1
        if parts > MAX_UNFOLDED_PARTS or len(waiting) > MAX_UNFOLDED_PARTS:
            return True
        path.append(id(node))
        on_path.add(id(node))
        waiting.extend((part, level + 1) for part in _below(schema, node, anchors))
    return False


def _below(schema: JsonObject, node: JsonObject, anchors: dict[str, list[JsonObject]]) -> Iterator[JsonObject]:
    for name, value in node.items():
        if name in REFERENCES and isinstance(value, str):
            yield from referred(schema, value, anchors)
        elif isinstance(value, dict):
            yield value
        elif isinstance(value, list):
            yield from (part for part in value if isinstance(part, dict))


def referred(schema: JsonObject, reference: str, anchors: dict[str, list[JsonObject]]) -> list[JsonObject]:
    """Return the objects that a reference may mean; the whole document if unclear."""
    fragment = unquote(reference.partition("#")[2])
    if fragment in anchors:
        return anchors[fragment]
    if not reference.startswith("#/"):
        return [schema]
    node: Any = schema
    for step in fragment[1:].split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict):
            node = node.get(name)
        elif isinstance(node, list) and name.isdecimal() and len(name) < _INDEX_DIGITS and int(name) < len(node):
            node = node[int(name)]
        else:
            return []
    return [node] if isinstance(node, dict) else []
