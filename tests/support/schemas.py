"""Schemas that are more work than they look."""

from schemas.jsons import JsonObject

TREE: JsonObject = {
    "$defs": {"tree": {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}},
    "$ref": "#/$defs/tree",
}
DOUBLING: JsonObject = {
    "$defs": {"t": {"type": "object", "properties": {"c": {"allOf": [{"$ref": "#/$defs/t"}, {"$ref": "#/$defs/t"}]}}}},
    "$ref": "#/$defs/t",
}


def unfolding(levels: int) -> JsonObject:
    """Few parts that unfold to 2 to the power of `levels`."""
    named: JsonObject = {
        f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}, {"$ref": f"#/$defs/d{level + 1}"}]}
        for level in range(levels)
    }
    return {"$defs": {**named, f"d{levels}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def endless(levels: int = 30, *, anchored: bool = False) -> JsonObject:
    """Alternatives that are compiled and evaluated again at each level."""

    def reference(level: int) -> str:
        return f"#n{level}" if anchored else f"#/$defs/d{level}"

    named: JsonObject = {
        f"d{level}": {
            "$anchor": f"n{level}",
            "anyOf": [
                {"$ref": reference(level + 1), "unevaluatedProperties": False},
                {"$ref": reference(level + 1), "title": "x"},
            ],
            "unevaluatedProperties": False,
        }
        for level in range(levels)
    }
    return {"$defs": {**named, f"d{levels}": {"$anchor": f"n{levels}", "type": "string"}}, "$ref": reference(0)}


def branching_ifs(levels: int = 40) -> JsonObject:
    """Usable, and no value is ever checked against it: each level is evaluated twice by the one above."""
    named: JsonObject = {
        f"d{level}": {name: {"$ref": f"#/$defs/d{level + 1}"} for name in ("if", "then", "else")}
        for level in range(levels)
    }
    return {"$defs": {**named, f"d{levels}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def nested_ifs(levels: int) -> JsonObject:
    """`if` within `if`, each with `unevaluatedProperties`."""
    schema: JsonObject = {}
    for _ in range(levels):
        schema = {"if": schema, "unevaluatedProperties": False}
    return schema


def nested_in_properties(name: str, levels: int) -> JsonObject:
    """The list keyword `name` within itself, each with `unevaluatedProperties`."""
    schema: JsonObject = {}
    for _ in range(levels):
        schema = {name: [schema, {"properties": {"a": True}}], "unevaluatedProperties": False}
    return schema


def nested_items(levels: int) -> JsonObject:
    """`items` within `items`."""
    schema: JsonObject = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema
