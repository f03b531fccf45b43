"""Bounds the cost of validating a value, from the schema alone. Pure.

Recursive schemas and unusual references have no bound: their values are checked in a child process.
"""

from dataclasses import dataclass
from math import inf
from typing import Any

from providers.contract.checkable import REFERENCES
from providers.contract.patterns import LARGE_PATTERN_COST, pattern_cost
from providers.contract.unfolding import UNEVALUATED, referred
from providers.contract.work import ERROR_CHARACTER_STEPS, ERROR_VALUE_STEPS, PAIR_STEPS, Size
from schemas.jsons import JsonObject

UNEVALUATED_FACTOR = 3
"""These keywords evaluate their neighbours again, at each level."""


@dataclass(frozen=True, slots=True)
class Weight:
    """Most parts that a value meets, and pattern steps per character."""

    parts: float
    character_steps: float

    def steps(self, size: Size) -> float:
        """Return the most steps of one validation (`providers.contract.work`)."""
        return self.parts * PAIR_STEPS * size.values + self.character_steps * size.characters

    def error_steps(self, size: Size) -> float:
        """Return the most steps of one value's errors, each of which copies the value."""
        return self.parts * (ERROR_VALUE_STEPS * size.values + ERROR_CHARACTER_STEPS * size.characters)


ENDLESS = Weight(inf, 0.0)


def weight_of(schema: JsonObject) -> Weight:
    """Return the weight of a schema of at most `MAX_SCHEMA_DEPTH` levels."""
    try:
        return _Weigher(schema).weight(schema)
    except RecursionError:  # a chain of references longer than the stack
        return ENDLESS


class _Weigher:
    def __init__(self, root: JsonObject) -> None:
        self._root = root
        self._known: dict[int, Weight] = {}

    def weight(self, node: Any) -> Weight:  # noqa: ANN401 - any part of a schema
        if not isinstance(node, dict | list):
            return Weight(1.0, 0.0)
        weight = self._known.get(id(node))
        if weight is None:
            self._known[id(node)] = ENDLESS  # a part that is met again before it is weighed is recursive
            weight = self._known[id(node)] = self._weighed(node)
        return weight

    def _weighed(self, node: JsonObject | list[Any]) -> Weight:
        below = [self.weight(part) for part in (node.values() if isinstance(node, dict) else node)]
        if isinstance(node, dict):
            below += [self._target(node[name]) for name in REFERENCES if isinstance(node.get(name), str)]
        parts = 1.0 + sum(weight.parts for weight in below)
        steps = sum(weight.character_steps for weight in below) + _own_steps(node)
        factor = UNEVALUATED_FACTOR ** sum(name in node for name in UNEVALUATED)
        return Weight(parts * factor, steps * factor)

    def _target(self, reference: str) -> Weight:
        """Other references, even `#`, may be recursive."""
        schemas = referred(self._root, reference, {}) if reference.startswith("#/") else []
        return self.weight(schemas[0]) if schemas else ENDLESS


def _own_steps(node: JsonObject | list[Any]) -> float:
    if isinstance(node, list):
        return 0.0
    pattern, keyed = node.get("pattern"), node.get("patternProperties")
    patterns = [pattern] if isinstance(pattern, str) else []
    patterns += keyed if isinstance(keyed, dict) else ()
    return float(sum(pattern_cost(pattern) or LARGE_PATTERN_COST for pattern in patterns))
