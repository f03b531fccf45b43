"""Bounds what holding a value against a schema can cost, from the schema alone. Pure.

Every reference is counted as what it leads to. A schema that comes back to itself, or whose references are more than
plain pointers, has no bound here: its values are checked where a check can be given up.
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
"""`unevaluatedProperties` and `unevaluatedItems` evaluate their neighbours again, level by level."""


@dataclass(frozen=True, slots=True)
class Weight:
    """Parts that one value may meet at most, and steps that each of its characters may cost in patterns."""

    parts: float
    character_steps: float

    def steps(self, size: Size) -> float:
        """What one validation costs at most, in steps of `providers.contract.work`."""
        return self.parts * PAIR_STEPS * size.values + self.character_steps * size.characters

    def error_steps(self, size: Size) -> float:
        """What the errors of one value cost at most: the engine copies the value into the error of each part."""
        return self.parts * (ERROR_VALUE_STEPS * size.values + ERROR_CHARACTER_STEPS * size.characters)


ENDLESS = Weight(inf, 0.0)


def weight_of(schema: JsonObject) -> Weight:
    """The weight of a schema of at most `MAX_SCHEMA_DEPTH` levels."""
    try:
        return _Weigher(schema).weight(schema)
    except RecursionError:  # a chain of references longer than the stack
        return ENDLESS


class _Weigher:
    """Weighs each part of one schema once, whatever the number of references to it."""

    def __init__(self, root: JsonObject) -> None:
        self._root = root
        self._known: dict[int, Weight] = {}

    def weight(self, node: Any) -> Weight:  # noqa: ANN401 - any part of a schema
        if not isinstance(node, dict | list):
            return Weight(1.0, 0.0)
        known = self._known.get(id(node))
        if known is None:
            self._known[id(node)] = ENDLESS  # what is met again before it is known comes back to itself
            known = self._known[id(node)] = self._weighed(node)
        return known

    def _weighed(self, node: JsonObject | list[Any]) -> Weight:
        below = [self.weight(part) for part in (node.values() if isinstance(node, dict) else node)]
        if isinstance(node, dict):
            below += [self._target(node[name]) for name in REFERENCES if isinstance(node.get(name), str)]
        parts = 1.0 + sum(weight.parts for weight in below)
        steps = sum(weight.character_steps for weight in below) + _own_steps(node)
        factor = UNEVALUATED_FACTOR ** sum(name in node for name in UNEVALUATED)
        return Weight(parts * factor, steps * factor)

    def _target(self, reference: str) -> Weight:
        """What a plain pointer names; anything else, `#` itself included, may lead back."""
        schemas = referred(self._root, reference, {}) if reference.startswith("#/") else []
        return self.weight(schemas[0]) if schemas else ENDLESS


def _own_steps(node: JsonObject | list[Any]) -> float:
    if isinstance(node, list):
        return 0.0
    pattern, keyed = node.get("pattern"), node.get("patternProperties")
    patterns = [pattern] if isinstance(pattern, str) else []
    patterns += keyed if isinstance(keyed, dict) else ()
    return float(sum(pattern_cost(pattern) or LARGE_PATTERN_COST for pattern in patterns))
