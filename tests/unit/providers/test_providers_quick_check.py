"""The quick check and the full validator never disagree, and what is not quick is left alone."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from providers.quick_check import quick_check
from schemas.jsons import JsonObject

NAMES = st.sampled_from(["a", "b", "c"])
TYPES = st.sampled_from(["string", "object", "array", "boolean", "null", "number", "integer"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.floats(-3, 5) | st.sampled_from(["", "a", "bb", "low", "né"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def parts(inner: st.SearchStrategy[JsonObject]) -> st.SearchStrategy[JsonObject]:
    return st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "required": st.lists(NAMES, max_size=2, unique=True),
            "additionalProperties": st.booleans(),
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "type": TYPES | st.lists(TYPES, min_size=1, max_size=2, unique=True),
            "title": st.text(max_size=3),
        },
    )


LEAVES = st.fixed_dictionaries(
    {},
    optional={
        "type": TYPES,
        "enum": st.lists(st.sampled_from(["a", "low", None]), min_size=1, max_size=2, unique=True),
        "const": st.sampled_from(["a", None]),
        "pattern": st.sampled_from(["a", "^b+$"]),
        "minLength": st.integers(0, 2),
        "maxLength": st.integers(0, 2),
        "minItems": st.integers(0, 2),
        "maxItems": st.integers(0, 2),
        "minimum": st.integers(-2, 2),
        "maximum": st.integers(-2, 2),
        "exclusiveMinimum": st.integers(-2, 2),
        "exclusiveMaximum": st.integers(-2, 2),
    },
)
REFERENCES = st.just({"$ref": "#/$defs/named"})
SCHEMAS = st.recursive(LEAVES | REFERENCES, parts, max_leaves=6)


@settings(max_examples=200, deadline=None)
@given(SCHEMAS, LEAVES, st.lists(VALUES, min_size=1, max_size=5))
def test_the_quick_check_and_the_full_validator_agree(schema: JsonObject, named: JsonObject, values: list[Any]) -> None:
    whole = {**schema, "$defs": {"named": named}}
    check, full = quick_check(whole, most_matched_characters=100), Draft202012Validator(whole)

    assert check is not None
    for value in values:
        assert check(value) == full.is_valid(value), (whole, value)


@pytest.mark.parametrize("type_", ["string", "object", "array", "boolean", "null", "number", "integer"])
@pytest.mark.parametrize("value", [True, False, 0, 1, 1.0, 1.5, "1", None, [], {}], ids=repr)
def test_types_are_told_apart_as_json_does(type_: str, value: object) -> None:
    check = quick_check({"type": type_}, most_matched_characters=100)

    assert check is not None
    assert check(value) == Draft202012Validator({"type": type_}).is_valid(value)


@pytest.mark.parametrize("value", [True, False, "x", None, 3, 4], ids=repr)
def test_bounds_are_for_numbers_only(value: object) -> None:
    check = quick_check({"minimum": 4}, most_matched_characters=100)

    assert check is not None
    assert check(value) == Draft202012Validator({"minimum": 4}).is_valid(value)


@pytest.mark.parametrize(
    "schema",
    [
        {"format": "date"},
        {"oneOf": [{"type": "string"}]},
        {"not": {}},
        {"enum": [1, 2]},
        {"const": True},
        {"additionalProperties": {"type": "string"}},
        {"properties": {"a": True}},
        {"uniqueItems": True},
        {"somethingNew": 1},
        {"$defs": {"t": {"items": {"$ref": "#/$defs/t"}}}, "$ref": "#/$defs/t"},
        {"$ref": "#"},
        {"$ref": "#/$defs/a~1b"},
    ],
)
def test_what_only_the_full_validator_knows_has_no_quick_check(schema: JsonObject) -> None:
    assert quick_check(schema, most_matched_characters=100) is None


def test_a_text_too_long_for_its_pattern_is_not_said_to_be_valid() -> None:
    check = quick_check({"pattern": "a"}, most_matched_characters=10)

    assert check is not None
    assert check("a" * 10)
    assert not check("a" * 11)
