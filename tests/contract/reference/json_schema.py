"""Puts types, defaults and constraints of a JSON Schema into words for a table."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, TypeAlias

from tests.contract.reference.markdown import code

Schema: TypeAlias = dict[str, Any]

BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
FORMATS = {"path": "path", "password": "secret"}
LENGTHS = {"minItems": "at least {} item", "minLength": "at least {} character", "maxLength": "at most {} characters"}


def type_of(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(code(json.dumps(value)) for value in schema["enum"])
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    if "anyOf" in schema:
        return _any_of([part for part in schema["anyOf"] if part.get("type") != "null"])
    if schema.get("type") == "array":
        return f"list of {type_of(schema['items'])}"
    if "$ref" in schema or schema.get("type") == "object":
        return "table"
    if isinstance(schema.get("type"), list):
        return " or ".join(schema["type"])
    return FORMATS.get(schema.get("format", ""), str(schema.get("type", "any")))


def _any_of(parts: list[Schema]) -> str:
    names = [type_of(part) for part in parts]
    return "decimal, as number or string" if names == ["number", "string"] else " or ".join(names)


def default_of(schema: Schema, *, required: bool) -> str:
    if required:
        return "required"
    value = schema.get("default")
    return code(json.dumps(value)) if value is not None else "none"


def constraint_of(schema: Schema) -> str:
    return ", ".join(dict.fromkeys(_constraints(schema)))


def _constraints(schema: Schema) -> Iterator[str]:
    for part in schema.get("anyOf", ()):
        yield from _constraints(part)
    for key, sign in BOUNDS.items():
        if key in schema:
            yield f"{sign} {_number(schema[key])}"
    for key, words in LENGTHS.items():
        if key in schema:
            yield words.format(schema[key])
    if "pattern" in schema:
        yield f"matches {code(schema['pattern'])}"


def _number(value: float) -> str:
    return format(Decimal(str(value)).normalize(), "f")
