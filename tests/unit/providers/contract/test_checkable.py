"""Our check and the reference agree, and what is left out of a check never refuses."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from providers.contract.checkable import checkable
from providers.contract.validation import CompiledSchema
from providers.contract.work import Size, Work
from schemas.jsons import JsonObject

NAMES = st.sampled_from(["a", "b", "c"])
TYPES = st.sampled_from(["string", "object", "array", "boolean", "null", "number", "integer"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.floats(-3, 5) | st.sampled_from(["", "a", "bb", "low", "né"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
BEYOND = {"(?=a)a": "a", "(?!b)b?$": "a|^$"}
"""Patterns that the engine cannot run."""

SIZE = Size(characters=100, values=20, openings=10)


def leaves(patterns: st.SearchStrategy[str]) -> st.SearchStrategy[JsonObject]:
    counts = st.integers(0, 2)
    limits = st.integers(-2, 2)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.lists(TYPES, min_size=1, max_size=2, unique=True),
            "enum": st.lists(VALUES, min_size=1, max_size=2),
            "const": VALUES,
            "pattern": patterns,
            "multipleOf": st.integers(1, 3),
            "uniqueItems": st.booleans(),
            **dict.fromkeys(["minLength", "maxLength", "minItems", "maxItems", "minProperties"], counts),
            **dict.fromkeys(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"], limits),
        },
    )


def parts(patterns: st.SearchStrategy[str]) -> Any:  # noqa: ANN401 - a function of hypothesis
    def extended(inner: st.SearchStrategy[JsonObject]) -> st.SearchStrategy[JsonObject]:
        part = inner | st.booleans()
        some = st.lists(part, min_size=1, max_size=2)
        named = st.dictionaries(NAMES, part, max_size=3)
        return st.fixed_dictionaries(
            {},
            optional={
                "properties": named,
                "patternProperties": st.dictionaries(patterns, part, max_size=2),
                "required": st.lists(NAMES, max_size=2, unique=True),
                "dependentSchemas": named,
                "minContains": st.integers(0, 2),
                "maxContains": st.integers(0, 2),
                "prefixItems": some,
                **dict.fromkeys(["allOf", "anyOf", "oneOf"], some),
                **dict.fromkeys(["additionalProperties", "items", "contains", "not", "if", "then", "else"], part),
                **dict.fromkeys(["propertyNames", "unevaluatedProperties", "unevaluatedItems"], part),
            },
        )

    return extended


def schemas(patterns: st.SearchStrategy[str]) -> st.SearchStrategy[JsonObject]:
    own = leaves(patterns)
    whole = st.recursive(own | st.just({"$ref": "#/$defs/named"}), parts(patterns), max_leaves=8)
    return st.builds(lambda schema, named: {**schema, "$defs": {"named": named}}, whole, own)


@settings(max_examples=80, deadline=None)
@given(schemas(st.sampled_from(["a", "^b+$", "l.w"])), st.lists(VALUES, min_size=1, max_size=5))
def test_our_check_and_the_reference_agree(schema: JsonObject, values: list[Any]) -> None:
    compiled, reference = CompiledSchema(schema), Draft202012Validator(schema)

    assert compiled.unchecked == ()
    for value in values:
        assert (compiled.complaint(value, SIZE, Work(None)) is None) == reference.is_valid(value), (schema, value)


@settings(max_examples=120, deadline=None)
@given(schemas(st.sampled_from(["a", "^b+$", *BEYOND])), st.lists(VALUES, min_size=1, max_size=5))
def test_what_the_whole_schema_allows_its_checked_part_allows(schema: JsonObject, values: list[Any]) -> None:
    reduced, reference = CompiledSchema(checkable(schema).schema), Draft202012Validator(schema)

    for value in values:
        if reference.is_valid(value):
            assert reduced.complaint(value, SIZE, Work(None)) is None, (schema, value)
