"""Which schemas may be contracts, and which of them a provider can hold strictly."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from providers.contract.patterns import MAX_PATTERN_CHARACTERS
from providers.contract.schema_check import MAX_SCHEMA_BYTES, MAX_SCHEMA_PARTS, MAX_SCHEMA_VALUES, schema_verdict
from providers.contract.strict_mode import fits_strict, response_format
from providers.contract.validation import CompiledSchema
from providers.contract.work import Work, size_of
from schemas.contract import OutputContract
from tests.support.schemas import (
    TREE,
    branching_ifs,
    endless,
    nested_ifs,
    nested_in_properties,
    nested_items,
    unfolding,
)

CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
SPACED = {"properties": {"a b": {"type": "string"}, "%": {"type": "integer"}, "a/b": {"type": "null"}}}


def complaint(schema: dict[str, Any], value: object) -> str | None:
    return CompiledSchema(schema).complaint(value, size_of(json.dumps(value)), Work(None))


@pytest.mark.parametrize(
    "schema",
    [
        {},
        CLOSED,
        TREE,
        unfolding(20),
        branching_ifs(),
        nested_ifs(12),
        {**TREE, "unevaluatedProperties": False},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "string"},
        {"$schema": "https://json-schema.org/draft/2019-09/schema", "type": "string"},
        {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {}}, "$ref": "#/definitions/a"},
        {"$schema": "http://json-schema.org/draft-06/schema#", "exclusiveMinimum": 1},
        {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True},
        {"properties": {"$ref": {"type": "string"}, "pattern": {"type": "string"}}},
        {"properties": {"pattern": {"pattern": "a"}, "enum": {"type": "string"}, "$schema": {"type": "object"}}},
        {"enum": [{"$ref": "http://a.example/"}, {"pattern": "("}]},
        {"default": {"pattern": "("}},
        {"x-help": {"pattern": "(", "$ref": 1}},
        {"$ref": "#"},
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
        {"items": {"$id": "other", "type": "string"}},
        {"$id": "https://a.example/root", "$defs": {"a": {"$id": "b", "type": "string"}}, "$ref": "b"},
        {"$defs": {"a": {"$anchor": "here", "type": "string"}}, "$ref": "#here"},
        {"$defs": {"a": {"$dynamicAnchor": "here", "type": "string"}}, "$dynamicRef": "#here"},
        {"const": 10**40, "maximum": 10**400},
    ],
)
def test_usable_schemas(schema: dict[str, Any]) -> None:
    verdict = schema_verdict(schema)

    assert (verdict.complaint, verdict.unchecked) == (None, ())


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "strin"}, "strin"),
        ({"required": "a"}, "required"),
        ({"properties": []}, "properties"),
        ({"properties": {"a": {"minimum": "x"}}}, "properties/a/minimum"),
        ({"$schema": {}}, "$schema"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "Unknown meta-schema"),
        ({"$schema": "https://a.example/own"}, "Unknown meta-schema"),
        ({"$ref": "https://example.com/schema.json"}, "https://example.com/schema.json"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "file:///etc/passwd"),
        ({"$ref": "//a.example/x"}, "//a.example/x"),
        ({"$dynamicRef": "#x"}, "does not exist"),
        ({"$ref": "#/$defs/missing"}, "does not exist"),
        ({"$ref": "#missing"}, "does not exist"),
        ({"$ref": "#/%zz"}, "percent-encoded"),
        ({"$ref": "%"}, "percent-encoded"),
        ({"$id": "http://[bad"}, "invalid"),
        ({"$id": 5}, "$id"),
        (nested_items(200), "deeper"),
        (nested_items(2_000), "deeper"),
        (endless(), "unfold to too many parts"),
        (endless(anchored=True), "unfold to too many parts"),
        ({"$defs": {"a": {"$id": "b"}}, "unevaluatedProperties": False}, "$id within a schema"),
        (nested_ifs(13), "unevaluatedProperties"),
        (nested_in_properties("oneOf", 13), "unevaluatedProperties"),
        ({"enum": ["x" * MAX_SCHEMA_BYTES]}, "bytes"),
        ({"allOf": [{}] * MAX_SCHEMA_PARTS}, "parts"),
        ({"enum": list(range(MAX_SCHEMA_VALUES))}, "values"),
        ({"pattern": "("}, "pattern: '(' is no regular expression"),
        ({"pattern": "(" * 3_000}, "no regular expression"),
        ({"pattern": "a)"}, "no regular expression"),
        ({"pattern": "[a"}, "no regular expression"),
        ({"properties": {"a": {"patternProperties": {"a\\": {}}}}}, "properties/a/patternProperties"),
        ({"pattern": 5}, "pattern"),
        ({"const": object()}, "plain JSON"),
        ({"const": "\ud800"}, "the schema"),
        ({"pattern": "\ud800"}, "the schema"),
        ({"properties": {"\ud800": {}}}, "the schema"),
    ],
)
def test_unusable_schemas_are_refused_with_a_reason(schema: dict[str, Any], words: str) -> None:
    assert words in str(schema_verdict(schema).complaint)


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"^\p{L}+$", "né", "n1"),
        (r"(?<year>\d{4})", "in 2026", "in 26"),
        (r"^[a-z0-9]+(?:-[a-z0-9]+)*$", "a-slug-9", "a--b"),
        (r"^(\d{1,3}\.){3}\d{1,3}$", "10.0.0.1", "10.0.0"),
        (r"^[^@\s]+@[^@\s]+\.[a-z]{2,24}$", "a@b.ch", "a@b"),
        ("a*a*a*a*b", "ab", "a" * 200_000),
        ("^(a+)+$", "aa", "a" * 200_000 + "b"),
        ("(a|aa)*b", "aab", "a" * 200_000),
        ("(?x)^(a+) +$", "aa", "a" * 200_000 + "b"),
        ("((a{0,9}){0,9}){0,9}b", "ab", "a" * 200_000),
        ("^" + "a?" * 50 + "a{50}$", "a" * 60, "a" * 101),
    ],
)
def test_patterns_without_backtracking_are_checked(pattern: str, good: str, bad: str) -> None:
    assert schema_verdict({"pattern": pattern}).unchecked == ()
    assert complaint({"pattern": pattern}, good) is None
    assert complaint({"pattern": pattern}, bad) is not None
    assert complaint({"patternProperties": {pattern: False}}, {good: 1}) is not None


BEYOND = [
    "^(?=a)b$",
    "^(?!a)b$",
    "(?<=a)b",
    r"^(a)\1$",
    r"(?<x>a)\k<x>",
    "^.{0,5000000000}$",
    "a{99999999999999999999}",
    "(" * 2_000 + ")" * 2_000,
    "a" * (MAX_PATTERN_CHARACTERS + 1),
    r"(?i)\p{L}{500}",
    "[^]",
]


@pytest.mark.parametrize("pattern", BEYOND)
def test_what_the_engine_cannot_do_is_named_and_the_rest_is_checked(pattern: str) -> None:
    schema = {"properties": {"a": {"type": "string", "pattern": pattern}, "b": {"type": "integer"}}}

    verdict = schema_verdict(schema)

    assert verdict.complaint is None
    assert len(verdict.unchecked) == 1
    assert verdict.unchecked[0].startswith("properties/a/pattern: ")
    assert complaint(schema, {"a": "anything", "b": 1}) is None
    assert "b: 'x'" in str(complaint(schema, {"a": "anything", "b": "x"}))
    assert "a: 5" in str(complaint(schema, {"a": 5}))


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"not": {"pattern": "(?=a)a"}}, "b"),
        ({"if": {"pattern": "(?=a)a"}, "then": {"minLength": 5}}, "b"),
        ({"if": {"pattern": "(?=a)a"}, "else": False}, "a"),
        ({"if": {"type": "string", "pattern": "(?=a)a"}, "then": False}, 5),
        ({"oneOf": [{"pattern": "(?=a)a"}, {"pattern": "b"}]}, "b"),
        ({"contains": {"pattern": "(?=a)a"}, "maxContains": 1}, ["a", "b", "c"]),
        ({"patternProperties": {"(?=a)a": {"type": "string"}}, "additionalProperties": False}, {"a": "x"}),
        ({"patternProperties": {"(?=a)a": {"type": "string"}}, "unevaluatedProperties": False}, {"a": "x"}),
        (
            {
                "if": {"properties": {"a": {"pattern": "(?=a)a"}}},
                "then": {"properties": {"c": True}},
                "unevaluatedProperties": False,
            },
            {"a": "a", "c": 1},
        ),
        ({"$defs": {"x": {"pattern": "(?=a)a"}}, "not": {"$ref": "#/$defs/x"}}, "b"),
        ({"x": {"y": {"pattern": "(?=a)a"}}, "not": {"$ref": "#/x/y"}}, "b"),
        ({"not": {"pattern": "(?=a)a"}, "properties": {"p": {"$ref": "#/not"}}}, {"p": "a"}),
    ],
)
def test_a_part_that_is_not_checked_never_refuses_what_the_whole_allows(schema: dict[str, Any], value: object) -> None:
    verdict = schema_verdict(schema)

    assert (verdict.complaint, complaint(schema, value)) == (None, None)
    assert verdict.unchecked


def test_an_equal_schema_is_not_looked_at_again() -> None:
    first, again = ({"title": "asked for twice", "pattern": "(?=a)a"} for _ in range(2))

    with capture_logs() as logs:
        assert schema_verdict(again) is schema_verdict(first)

    assert [entry["event"] for entry in logs] == ["schema_partly_unchecked"]


def test_very_many_patterns_are_checked_as_far_as_the_budget_goes() -> None:
    schema = {"properties": {f"p{number}": {"pattern": f"^{number}$"} for number in range(100)}}

    verdict = schema_verdict(schema)

    assert verdict.complaint is None
    assert verdict.unchecked[-1] == "and 48 more"
    assert complaint(schema, {"p0": "x"}) is not None
    assert complaint(schema, {"p99": "x"}) is None


@pytest.mark.parametrize(
    ("reference", "good", "bad"),
    [("#/properties/a%20b", "x", 1), ("#/properties/%25", 1, "x"), ("#/properties/a~1b", None, 1)],
)
def test_references_are_resolved_by_what_validates(reference: str, good: object, bad: object) -> None:
    schema = {**SPACED, "properties": {**SPACED["properties"], "p": {"$ref": reference}}}

    assert schema_verdict(schema).complaint is None
    assert complaint(schema, {"p": good}) is None
    assert complaint(schema, {"p": bad}) is not None


KEYWORDS = [
    "type",
    "$ref",
    "$id",
    "$schema",
    "$anchor",
    "$dynamicRef",
    "$defs",
    "properties",
    "patternProperties",
    "pattern",
    "items",
    "not",
    "if",
    "then",
    "allOf",
    "anyOf",
    "oneOf",
    "enum",
    "const",
    "required",
    "dependentRequired",
    "unevaluatedProperties",
    "contains",
    "minContains",
    "maxContains",
    "multipleOf",
    "minimum",
    "maxLength",
    "format",
    "$vocabulary",
    "propertyNames",
    "prefixItems",
    "(",
    "a",
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
    | st.sampled_from(["#", "#/a", "%", "string", "(", "(?=a)", "a{9999999999}", "http://a", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            KEYWORDS
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["$ref", "properties", "pattern", "not", "$defs", "x"]), ANYTHING), ANYTHING)
def test_whatever_a_schema_and_a_value_are_nothing_is_raised(schema: dict[str, Any], value: object) -> None:
    if schema_verdict(schema).complaint is None:
        complaint(schema, value)


@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        (CLOSED, True),
        ({**CLOSED, "additionalProperties": True}, False),
        ({**CLOSED, "required": []}, False),
        ({"type": "object"}, False),
        ({"type": "array", "items": CLOSED}, True),
        ({"type": "array"}, False),
        ({"anyOf": [CLOSED, {"type": "null"}]}, True),
        ({"oneOf": [CLOSED]}, False),
        ({"$ref": "#/$defs/a"}, True),
        ({}, False),
    ],
)
def test_strict_output_holds_closed_schemas_only(schema: dict[str, object], fits: bool) -> None:  # noqa: FBT001 - a table
    assert fits_strict(schema) is fits


def test_a_contract_travels_strictly_where_it_can() -> None:
    wanted = response_format(OutputContract(schema=CLOSED, name="my answer"))

    assert wanted == {
        "type": "json_schema",
        "json_schema": {"name": "my_answer", "schema": CLOSED, "strict": True},
    }


def test_a_looser_contract_travels_as_a_wish() -> None:
    wanted = response_format(OutputContract(schema={"type": "object"}))

    assert wanted is not None
    assert wanted["json_schema"]["strict"] is False


def test_a_contract_without_an_object_at_its_root_is_only_checked_here() -> None:
    assert response_format(OutputContract(schema={"type": "array", "items": {"type": "string"}})) is None
