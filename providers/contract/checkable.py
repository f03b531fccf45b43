"""Reduces a schema to the part that is checked here, and names the rest. Pure.

Patterns that the engine cannot run are removed. Keywords that would become stricter without them (`not`, `if`, `oneOf`,
`contains`) are loosened, so that all valid values stay valid.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from providers.contract.patterns import SMALL_PATTERN_COST, is_broken, pattern_cost
from schemas.jsons import JsonObject

MAX_PATTERNS = 32
MAX_LARGE_PATTERNS = 3
"""Most compiled patterns of one schema, and most large or failing ones: under 20 ms of the event loop."""

MAX_UNCHECKED_NAMED = 20
"""Most left-out parts that are named."""

MAX_SHOWN_CHARACTERS = 80

REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_MAPS = frozenset({"properties", "$defs", "definitions", "dependentSchemas", "dependencies"})
_SCHEMAS = frozenset(
    {
        "additionalItems",
        "additionalProperties",
        "allOf",
        "anyOf",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "oneOf",
        "prefixItems",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_TURNS_LOOSE_INTO_STRICT = ("not", "if", "oneOf", "contains")


class BrokenPatternError(Exception):
    """No engine can read the pattern; the message names the place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkable:
    """The checked part of a schema; `unchecked` names the others."""

    schema: JsonObject
    unchecked: tuple[str, ...] = ()


def checkable(schema: JsonObject) -> Checkable:
    """Return the checkable part of a schema. Raises BrokenPatternError."""
    if not any("pattern" in part or "patternProperties" in part for part in objects_of(schema)):
        return Checkable(schema=schema)
    reduction = _Reduction()
    reduction.reduced(schema, "")
    if not reduction.left_out:
        return Checkable(schema=schema)
    reduction = _Reduction(references_taint=True)
    reduced, _ = reduction.reduced(schema, "")
    return Checkable(schema=reduced, unchecked=_named(reduction.left_out))


def objects_of(schema: JsonObject) -> Iterator[JsonObject]:
    """Yield the schema and every object in it."""
    waiting: list[Any] = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def _named(left_out: list[str]) -> tuple[str, ...]:
    if len(left_out) <= MAX_UNCHECKED_NAMED:
        return tuple(left_out)
    return (*left_out[:MAX_UNCHECKED_NAMED], f"and {len(left_out) - MAX_UNCHECKED_NAMED} more")


@dataclass(kw_only=True, slots=True)
class _Reduction:
    """`references_taint`: references may lead to left-out patterns."""

    references_taint: bool = False
    left_out: list[str] = field(default_factory=list)
    patterns: dict[str, bool] = field(default_factory=dict)
    large: int = 0

    def reduced(self, node: Any, place: str) -> tuple[Any, bool]:  # noqa: ANN401 - any part of a schema
        """Returns the checked part, and whether it accepts more than before."""
        if isinstance(node, list):
            parts = [self.reduced(part, f"{place}/{index}") for index, part in enumerate(node)]
            return [part for part, _ in parts], any(loose for _, loose in parts)
        if not isinstance(node, dict):
            return node, False
        keywords = {name: self._keyword(name, value, f"{place}/{name}") for name, value in node.items()}
        checked = {name: part for name, (part, _) in keywords.items()}
        loose = {name for name, (_, is_loose) in keywords.items() if is_loose}
        if self.references_taint and any(isinstance(node.get(name), str) for name in REFERENCES):
            loose.add("$ref")
        if isinstance(node.get("pattern"), str) and not self._is_checked(node["pattern"], f"{place}/pattern"):
            del checked["pattern"]
            loose.add("pattern")
        self.left_out += [
            f"{f'{place}/{name}'.removeprefix('/')}: depends on what is not checked"
            for name in _TURNS_LOOSE_INTO_STRICT
            if name in loose
        ]
        return _loosened(checked, loose), bool(loose)

    def _keyword(self, name: str, value: Any, place: str) -> tuple[Any, bool]:  # noqa: ANN401 - any part of a schema
        if name == "patternProperties" and isinstance(value, dict):
            return self._keyed(value, place)
        if name in _MAPS and isinstance(value, dict):
            parts = {key: self.reduced(part, f"{place}/{key}") for key, part in value.items()}
            return {key: part for key, (part, _) in parts.items()}, any(loose for _, loose in parts.values())
        return self.reduced(value, place) if name in _SCHEMAS else (value, False)

    def _keyed(self, value: JsonObject, place: str) -> tuple[JsonObject, bool]:
        """Replaces an unchecked key by one that fits every name, so that no name is unexpected."""
        checked: JsonObject = {}
        is_loose = False
        for pattern, part in value.items():
            if self._is_checked(pattern, place):
                checked[pattern], part_is_loose = self.reduced(part, f"{place}/{pattern[:MAX_SHOWN_CHARACTERS]}")
                is_loose = is_loose or part_is_loose
            else:
                checked.setdefault("", True)
                is_loose = True
        if "" in value:
            checked[""] = self.reduced(value[""], f"{place}/")[0]
        return checked, is_loose

    def _is_checked(self, pattern: str, place: str) -> bool:
        is_checked = self.patterns.get(pattern)
        if is_checked is None:
            is_checked = self.patterns[pattern] = self._fits_budget(pattern, place)
        if not is_checked:
            self.left_out.append(f"{place.removeprefix('/')}: the pattern {pattern[:MAX_SHOWN_CHARACTERS]!r}")
        return is_checked

    def _fits_budget(self, pattern: str, place: str) -> bool:
        if is_broken(pattern):
            raise BrokenPatternError(
                f"{place.removeprefix('/')}: {pattern[:MAX_SHOWN_CHARACTERS]!r} is no regular expression."
            )
        if len(self.patterns) >= MAX_PATTERNS or self.large >= MAX_LARGE_PATTERNS:
            return False
        cost = pattern_cost(pattern)
        self.large += cost != SMALL_PATTERN_COST
        return cost is not None


def _loosened(node: JsonObject, loose: set[str]) -> JsonObject:
    if "not" in loose:
        del node["not"]
    loosest: list[JsonObject] = []
    if "if" in loose:  # as one alternative it refuses nothing, and what it evaluates stays evaluated
        branches = [node.pop(name) for name in ("if", "then", "else") if name in node]
        loosest.append({"anyOf": [*branches, True]})
    if "oneOf" in loose:
        loosest.append({"anyOf": node.pop("oneOf")})
    if loosest:
        node["allOf"] = [*node.get("allOf", ()), *loosest]
    if "contains" in loose:
        node.pop("maxContains", None)
    return node
