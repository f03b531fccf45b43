"""Complaints fit for a model, and bounded work whatever the schema and the value."""

import pytest

from providers.validation import MAX_COMPILED, MAX_COMPLAINT_CHARACTERS, MAX_COMPLAINTS, CompiledSchema, CompiledSchemas
from schemas.jsons import JsonObject

TREE: JsonObject = {
    "$defs": {"tree": {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}},
    "$ref": "#/$defs/tree",
}
DOUBLING: JsonObject = {
    "$defs": {"t": {"type": "object", "properties": {"c": {"allOf": [{"$ref": "#/$defs/t"}, {"$ref": "#/$defs/t"}]}}}},
    "$ref": "#/$defs/t",
}


def complaint(schema: JsonObject, value: object) -> str | None:
    return CompiledSchema(schema).complaint(value)


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        ({"type": "integer"}, "3", "'3' is not of type 'integer'"),
        ({"type": "integer"}, True, "True is not of type 'integer'"),
        ({"required": ["a"]}, {}, "'a' is a required property"),
        ({"properties": {"a": {"type": "string"}}}, {"a": 1}, "a: 1 is not of type 'string'"),
        ({"properties": {"a": {"items": {"type": "string"}}}}, {"a": ["x", 1]}, "a[1]: 1 is not of type 'string'"),
        ({"properties": {}, "additionalProperties": False}, {"b": 1}, "'b' was unexpected"),
        ({"anyOf": [{"type": "null"}, {"properties": {"a": {"type": "string"}}}]}, {"a": 1}, "a: 1 is not"),
        ({"enum": ["low", "high"]}, "mid", "'mid' is not one of ['low', 'high']"),
        ({"type": "string", "format": "date"}, "today", "'today' is not a 'date'"),
    ],
)
def test_a_complaint_names_place_and_reason(schema: dict[str, object], value: object, words: str) -> None:
    assert words in str(complaint(schema, value))


@pytest.mark.parametrize(
    ("schema", "value"),
    [({}, None), ({"type": "number"}, 1), (TREE, {"kids": [{"kids": []}]}), ({"type": ["string", "null"]}, None)],
)
def test_what_meets_its_schema_has_no_complaint(schema: dict[str, object], value: object) -> None:
    assert complaint(schema, value) is None


def test_a_complaint_is_short_and_keeps_its_reason() -> None:
    text = str(complaint({"type": "integer"}, "x" * 100_000))

    assert len(text) < MAX_COMPLAINT_CHARACTERS + 10
    assert text.endswith("is not of type 'integer'")


def test_only_a_few_complaints_are_made() -> None:
    text = str(complaint({"items": {"type": "string"}}, list(range(1_000))))

    assert text.count(";") == MAX_COMPLAINTS - 1
    assert text.startswith("[0]")


def test_a_value_that_would_take_for_ever_is_refused() -> None:
    value: dict[str, object] = {}
    for _ in range(40):
        value = {"c": value}

    assert "too large" in str(complaint(DOUBLING, value))


def test_a_value_too_deep_for_the_stack_is_refused() -> None:
    value: dict[str, object] = {}
    for _ in range(900):
        value = {"kids": [value]}

    assert "too deeply nested" in str(complaint(TREE, value))


def test_a_long_text_is_not_tried_on_a_pattern() -> None:
    assert "too many for its pattern" in str(complaint({"pattern": "^a+$"}, "a" * 10_000))


def test_a_schema_is_compiled_once_per_digest() -> None:
    schemas = CompiledSchemas()

    first = schemas.of({"type": "object", "title": "t"})

    assert schemas.of({"title": "t", "type": "object"}) is first


def test_the_cache_is_bounded() -> None:
    schemas = CompiledSchemas()
    first = schemas.of({"title": "first"})

    for number in range(MAX_COMPILED):
        schemas.of({"title": str(number)})

    assert schemas.of({"title": "first"}) is not first
