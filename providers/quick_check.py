"""A schema as a tree of closures that only says yes or no, for the schemas that most contracts are. Pure.

Invariant: its yes is the full validator's yes, so that a valid reply costs a tenth; anything else is asked again there,
for the words. A keyword, a type or a recursion that is not known here makes no quick check at all.
"""

import re
from collections.abc import Callable
from typing import Any, TypeAlias

from schemas.jsons import JsonObject

MAX_PARTS = 1_000
"""Subschemas with references unfolded; what unfolds further is left to the full validator."""

Check: TypeAlias = Callable[[Any], bool]

_ANNOTATIONS = frozenset(
    {"$schema", "$id", "$defs", "definitions", "$comment", "title", "description", "default", "examples", "deprecated"}
)


class _NotQuickError(Exception):
    """This schema has something that only the full validator knows."""


def quick_check(schema: JsonObject, *, most_matched_characters: int) -> Check | None:
    """A check of values, or None where this schema has none. `most_matched_characters` bounds texts of patterns."""
    try:
        return _Compiler(schema, most_matched_characters).check(schema)
    except (_NotQuickError, RecursionError):
        return None


class _Compiler:
    """Compiles the parts of one schema, and counts them."""

    def __init__(self, root: JsonObject, most_matched_characters: int) -> None:
        self._root = root
        self._most_matched_characters = most_matched_characters
        self._parts = 0
        self._unfolding: set[str] = set()

    def check(self, schema: Any) -> Check:  # noqa: ANN401 - any part of a schema
        self._parts += 1
        if self._parts > MAX_PARTS or not isinstance(schema, dict):
            raise _NotQuickError
        checks = [found for name in schema if (found := self._keyword(name, schema)) is not None]
        match checks:
            case []:
                return _anything
            case [only]:
                return only
            case [first, second]:
                return lambda value: first(value) and second(value)
        return lambda value: all(check(value) for check in checks)

    def _keyword(self, name: str, schema: JsonObject) -> Check | None:
        wanted = schema[name]
        match name:
            case "type":
                return _of_types(wanted)
            case "properties" | "required" | "additionalProperties":
                first = next(key for key in schema if key in {"properties", "required", "additionalProperties"})
                return self._object(schema) if name == first else None
            case "items":
                return self._items(wanted)
            case "anyOf":
                return self._any_of(wanted)
            case "$ref":
                return self._reference(wanted)
            case "enum" | "const":
                return _one_of(wanted if name == "enum" else [wanted])
            case "pattern":
                return self._matching(wanted)
            case _ if name in _BOUNDS:
                return _BOUNDS[name](wanted)
            case _ if name in _ANNOTATIONS:
                return None
        raise _NotQuickError

    def _object(self, schema: JsonObject) -> Check:
        properties = {name: self.check(part) for name, part in schema.get("properties", {}).items()}
        required, extra = tuple(schema.get("required", ())), schema.get("additionalProperties", True)
        if not isinstance(extra, bool):
            raise _NotQuickError

        def check(value: Any) -> bool:  # noqa: ANN401 - any JSON value
            if not isinstance(value, dict):
                return True
            for name in required:
                if name not in value:
                    return False
            for name, inner in value.items():
                wanted = properties.get(name)
                if wanted is None:
                    if not extra:
                        return False
                elif not wanted(inner):
                    return False
            return True

        return check

    def _items(self, schema: Any) -> Check:  # noqa: ANN401 - any part of a schema
        item = self.check(schema)
        return lambda value: not isinstance(value, list) or all(map(item, value))

    def _any_of(self, schemas: list[Any]) -> Check:
        checks = [self.check(schema) for schema in schemas]
        return lambda value: any(check(value) for check in checks)

    def _reference(self, reference: str) -> Check:
        if reference in self._unfolding:
            raise _NotQuickError  # a recursion
        self._unfolding.add(reference)
        found = self.check(self._named(reference))
        self._unfolding.remove(reference)
        return found

    def _named(self, reference: str) -> Any:  # noqa: ANN401 - any part of a schema
        steps = reference.split("/")
        if len(steps) != len(("#", "$defs", "name")) or steps[0] != "#" or "~" in reference or "%" in reference:
            raise _NotQuickError
        return self._root.get(steps[1], {}).get(steps[2])

    def _matching(self, pattern: str) -> Check:
        search, most = re.compile(pattern).search, self._most_matched_characters
        return lambda value: not isinstance(value, str) or (len(value) <= most and search(value) is not None)


def _anything(_: Any) -> bool:  # noqa: ANN401 - any JSON value
    return True


def _is_number(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


_TYPES: dict[str, Check] = {
    "string": lambda value: isinstance(value, str),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": _is_number,
    "integer": _is_integer,
}


def _of_types(wanted: str | list[str]) -> Check:
    if isinstance(wanted, str):
        return _TYPES[wanted]
    checks = [_TYPES[name] for name in wanted]
    return lambda value: any(check(value) for check in checks)


def _one_of(values: list[Any]) -> Check:
    """Texts and null only: equality of numbers and booleans is the full validator's business."""
    if not all(value is None or isinstance(value, str) for value in values):
        raise _NotQuickError
    allowed = frozenset(values)
    return lambda value: (value is None or isinstance(value, str)) and value in allowed


_BOUNDS: dict[str, Callable[[Any], Check]] = {
    "minLength": lambda least: lambda value: not isinstance(value, str) or len(value) >= least,
    "maxLength": lambda most: lambda value: not isinstance(value, str) or len(value) <= most,
    "minItems": lambda least: lambda value: not isinstance(value, list) or len(value) >= least,
    "maxItems": lambda most: lambda value: not isinstance(value, list) or len(value) <= most,
    "minimum": lambda least: lambda value: not _is_number(value) or value >= least,
    "maximum": lambda most: lambda value: not _is_number(value) or value <= most,
    "exclusiveMinimum": lambda least: lambda value: not _is_number(value) or value > least,
    "exclusiveMaximum": lambda most: lambda value: not _is_number(value) or value < most,
}
