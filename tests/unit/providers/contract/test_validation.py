"""Complaints fit for a model, and bounded work whatever the schema and the value."""

import json
from decimal import Decimal
from typing import Any

import pytest

from providers.contract.complaints import MAX_COMPLAINT_CHARACTERS, shown
from providers.contract.validation import (
    MAX_COMPILED,
    MAX_COMPILED_SOURCE_BYTES,
    MAX_COMPLAINTS,
    TOO_DEEP,
    UNREADABLE,
    CompiledSchema,
    CompiledSchemas,
)
from providers.contract.work import Size, TooMuchWork, Work, size_of
from schemas.jsons import MAX_REPLY_LEVELS, JsonObject
from tests.support.schemas import DOUBLING, TREE, nested_ifs, nested_in_properties, unfolding


def complaint(schema: JsonObject, value: object, size: Size | None = None) -> str | None:
    """What is said of a value; its size is that of its JSON unless given."""
    return CompiledSchema(schema).complaint(value, size or size_of(json.dumps(value)), Work(None))


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        ({"type": "integer"}, "3", "'3' is not of type 'integer'"),
        ({"type": "integer"}, True, "True is not of type 'integer'"),
        ({"type": ["string", "null"]}, 1, "1 is not of type 'string', 'null'"),
        ({"required": ["a"]}, {}, "'a' is a required property"),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "'b' is a required property"),
        ({"properties": {"a": {"type": "string"}}}, {"a": 1}, "a: 1 is not of type 'string'"),
        ({"properties": {"a": {"items": {"type": "string"}}}}, {"a": ["x", 1]}, "a[1]: 1 is not of type 'string'"),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"b": 1}, "'b' was unexpected"),
        ({"properties": {"a": False}}, {"a": 1}, "a: False schema does not allow 1"),
        ({"unevaluatedProperties": False}, {"b": 1, "c": 2}, "'b', 'c' were unexpected"),
        ({"anyOf": [{"type": "null"}, {"properties": {"a": {"type": "string"}}}]}, {"a": 1}, "a: 1 is not"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, 1, "not valid under any of the given schemas"),
        ({"enum": ["low", "high"]}, "mid", "'mid' is not one of ['low', 'high']"),
        ({"const": "low"}, "mid", "'low' was expected"),
        ({"not": {"type": "string"}}, "mid", "'mid' should not be valid under {'type': 'string'}"),
        ({"type": "string", "format": "date"}, "today", "'today' is not a 'date'"),
        ({"propertyNames": {"maxLength": 2}}, {"abc": 1}, "'abc' is too long: at most 2"),
        ({"pattern": "^a+$"}, "b" * 10_000, "does not match '^a+$'"),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{}], "additionalItems": False}, [1, 2], "2"),
    ],
)
def test_a_complaint_names_place_and_reason(schema: JsonObject, value: object, words: str) -> None:
    assert words in str(complaint(schema, value))


@pytest.mark.parametrize(
    ("schema", "value"),
    [({}, None), ({"type": "number"}, 1), (TREE, {"kids": [{"kids": []}]}), ({"type": ["string", "null"]}, None)],
)
def test_what_meets_its_schema_has_no_complaint(schema: JsonObject, value: object) -> None:
    assert complaint(schema, value) is None


def test_a_complaint_is_short_and_keeps_its_reason() -> None:
    text = str(complaint({"type": "integer"}, "x" * 100_000))

    assert len(text) < MAX_COMPLAINT_CHARACTERS + 10
    assert text.endswith("is not of type 'integer'")


def test_only_a_few_complaints_are_made() -> None:
    text = str(complaint({"items": {"type": "string"}}, list(range(100))))

    assert text.count(";") == MAX_COMPLAINTS - 1
    assert text.startswith("[0]")


def test_of_very_many_errors_only_the_first_is_looked_for() -> None:
    assert complaint({"items": {"type": "string"}}, list(range(10_000))) == "[0]: 0 is not of type 'string'"


def test_what_is_shown_of_a_value_is_bounded_whatever_the_value() -> None:
    wide = {f"k{number}": ["x" * 10_000] * 1_000 for number in range(1_000)}
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]

    for value in (wide, deep, "x" * 1_000_000, 10**100_000, Decimal("1e-999999"), ["\ud800" * 500]):
        assert len(shown(value)) < MAX_COMPLAINT_CHARACTERS


@pytest.mark.parametrize(
    ("schema", "value", "is_valid"),
    [
        ({"type": "integer"}, 10**30, True),
        ({"type": "integer"}, Decimal("1E+400"), True),
        ({"type": "number"}, Decimal("100000000000000000001.5"), True),
        ({"type": "integer"}, Decimal("1.5"), False),
        ({"minimum": 10**30}, 10**31, True),
        ({"maximum": 5}, 10**400, False),
        ({"maximum": 5}, Decimal("1E+400"), False),
        ({"multipleOf": 3}, 10**30, False),
        ({"enum": [10**30]}, 10**30, True),
        ({"const": 1}, Decimal("1.0"), True),
        ({"type": "string"}, 10**4_000, False),
    ],
)
def test_numbers_of_any_size_are_checked_as_numbers(schema: JsonObject, value: object, *, is_valid: bool) -> None:
    assert (complaint(schema, value, Size(100, 1, 0)) is None) == is_valid


def test_half_a_character_is_checked_as_its_replacement() -> None:
    schema: JsonObject = {"properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}

    assert complaint(schema, {"a": "\ud83d", "\ud800": 1, "b": 2}) is None
    assert "b: '\ufffd'" in str(complaint(schema, {"b": "\ud83d"})).replace("?", "\ufffd")


def test_a_value_deeper_than_the_engine_goes_is_a_complaint() -> None:
    value: dict[str, object] = {}
    for _ in range(100_000):  # the engine alone would end the process
        value = {"kids": [value]}

    assert complaint(TREE, value, Size(1_000_000, 200_000, 200_000)) == TOO_DEEP


@pytest.mark.parametrize(("levels", "says"), [(MAX_REPLY_LEVELS, None), (MAX_REPLY_LEVELS + 1, TOO_DEEP)])
def test_a_value_may_be_as_deep_as_a_reply(levels: int, says: str | None) -> None:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]

    assert complaint({"type": "array"}, value, size_of(json.dumps(value))) == says


def test_what_the_engine_cannot_read_is_not_called_too_deep() -> None:
    said = complaint({"type": "object"}, b"bytes", Size(10, 1, 1))

    assert said == UNREADABLE.format("Unsupported type: 'bytes'")


@pytest.mark.parametrize(
    "schema",
    [
        TREE,
        DOUBLING,
        unfolding(20),
        nested_ifs(12),
        nested_in_properties("anyOf", 12),
        {"$ref": "#"},
        {"$defs": {"a": {"$anchor": "here"}}, "$ref": "#here"},
        {"$defs": {"a": {"$dynamicAnchor": "here"}}, "$dynamicRef": "#here"},
        {"$defs": {str(number): {"$ref": f"#/$defs/{number + 1}"} for number in range(900)}},
    ],
)
def test_what_may_be_much_work_is_not_done_on_the_event_loop(schema: JsonObject) -> None:
    with pytest.raises(TooMuchWork):
        CompiledSchema(schema).complaint({}, Size(10_000, 2_000, 0), Work())


@pytest.mark.parametrize("pattern", ["^a+$", "a*a*a*a*b", "(?:[ab]{0,30}a){5}[^ab]"])
def test_a_long_text_for_a_pattern_is_not_matched_on_the_event_loop(pattern: str) -> None:
    schema = CompiledSchema({"properties": {"a": {"pattern": pattern}}})

    schema.complaint({"a": "b" * 500}, Size(500, 2, 1), Work())
    with pytest.raises(TooMuchWork):
        schema.complaint({"a": "b" * 500_000}, Size(500_000, 2, 1), Work())


def test_work_is_taken_before_it_is_done_and_adds_up() -> None:
    schema, work = CompiledSchema({"items": {"pattern": "^a$"}}), Work()

    def check_often() -> None:
        for _ in range(1_000):
            schema.complaint(["a"], Size(1_000, 100, 1), work)

    with pytest.raises(TooMuchWork):
        check_often()
    assert work.steps is not None
    assert work.steps >= 0


def test_a_usual_contract_is_little_work() -> None:
    fields = {f"field{number}": {"type": ["string", "null"], "maxLength": 500} for number in range(50)}
    fields["code"] = {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}
    value = dict.fromkeys(fields, "some words" * 4) | {"code": "AB-1234"}
    schema = CompiledSchema({"type": "object", "properties": fields, "required": list(fields)})

    assert schema.complaint(value, size_of(json.dumps(value)), Work(1_000_000)) is None


def test_a_schema_is_compiled_once_per_digest() -> None:
    schemas = CompiledSchemas()

    first = schemas.of({"type": "object", "title": "t"})

    assert schemas.of({"type": "object", "title": "t"}) is first


def test_the_cache_is_bounded_in_schemas() -> None:
    schemas = CompiledSchemas()
    first = schemas.of({"title": "first"})

    for number in range(MAX_COMPILED):
        schemas.of({"title": str(number)})

    assert schemas.of({"title": "first"}) is not first


def test_the_cache_is_bounded_in_bytes() -> None:
    schemas = CompiledSchemas()
    first = schemas.of({"title": "first"})

    for number in range(MAX_COMPILED_SOURCE_BYTES // 90_000 + 2):
        schemas.of({"title": "t" * 90_000 + str(number)})

    assert schemas.of({"title": "first"}) is not first


def test_the_errors_of_many_alternatives_are_counted_as_work() -> None:
    schema = CompiledSchema({"anyOf": [{"type": "null", "title": str(number)} for number in range(900)]})
    long = "x" * 60_000

    with pytest.raises(TooMuchWork):
        schema.complaint(long, size_of(json.dumps(long)), Work())
    assert schema.complaint("x", size_of('"x"'), Work()) is not None
