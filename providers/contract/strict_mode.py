"""Decides whether to request strict structured output. Pure.

It needs an object at the root, `additionalProperties: false` and every property required, at every level (OpenAI,
"Structured outputs").
"""

from typing import Any

from schemas.contract import OutputContract
from schemas.jsons import JsonObject

MAX_NAME_CHARACTERS = 64

_NOT_IN_STRICT = frozenset(
    {
        "allOf",
        "oneOf",
        "not",
        "if",
        "then",
        "else",
        "dependentRequired",
        "dependentSchemas",
        "patternProperties",
        "propertyNames",
        "unevaluatedProperties",
        "unevaluatedItems",
        "prefixItems",
        "contains",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "$dynamicRef",
        "$anchor",
    }
)


def response_format(contract: OutputContract) -> JsonObject | None:
    """Return the contract as `response_format`; None for a root that no provider accepts."""
    schema = contract.schema
    if schema.get("type") != "object":
        return None
    name = "".join(char if char.isascii() and (char.isalnum() or char in "_-") else "_" for char in contract.name)
    strict = contract.strict and "anyOf" not in schema and fits_strict(schema)
    json_schema = {"name": name[:MAX_NAME_CHARACTERS] or "answer", "schema": schema, "strict": strict}
    return {"type": "json_schema", "json_schema": json_schema}


def fits_strict(node: Any) -> bool:  # noqa: ANN401 - any part of a schema
    """Whether this part and all below it fit strict output."""
    if not isinstance(node, dict) or not node or _NOT_IN_STRICT & node.keys():
        return False
    properties = node.get("properties", {})
    if "object" in _types(node) or properties:
        closed = node.get("additionalProperties") is False
        if not closed or set(node.get("required", ())) != set(properties):
            return False
    below = [*properties.values(), *node.get("$defs", {}).values(), *node.get("anyOf", ())]
    if "array" in _types(node):
        below.append(node.get("items"))
    return all(fits_strict(part) for part in below)


def _types(node: JsonObject) -> list[str]:
    types = node.get("type", [])
    return [types] if isinstance(types, str) else list(types)
