"""Which schemas may be contracts, and which of them a provider can hold strictly."""

import pytest

from providers.schema_check import schema_complaint
from providers.strictness import fits_strict, response_format
from schemas.contract import OutputContract

CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
TREE = {"$defs": {"t": {"properties": {"kids": {"items": {"$ref": "#/$defs/t"}}}}}, "$ref": "#/$defs/t"}


def unfolding(levels: int) -> dict[str, object]:
    named: dict[str, object] = {
        f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}, {"$ref": f"#/$defs/d{level + 1}"}]}
        for level in range(levels)
    }
    return {"$defs": {**named, f"d{levels}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def nested(levels: int) -> dict[str, object]:
    schema: dict[str, object] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {},
        CLOSED,
        TREE,
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "string"},
        {"properties": {"$ref": {"type": "string"}, "pattern": {"type": "string"}}},
        {"enum": [{"$ref": "http://a.example/"}]},
        {"type": "string", "pattern": r"^[A-Z]{2}-\d{4}$"},
        {"type": "string", "pattern": r"^(red|green)$"},
        {"type": "string", "pattern": r"^(\d{1,3}\.){3}\d{1,3}$"},
        {"type": "string", "pattern": r"^[^@\s]+@[^@\s]+\.[a-z]{2,24}$"},
        {"$defs": {"a": {"$anchor": "here", "type": "string"}}, "$ref": "#here"},
    ],
)
def test_usable_schemas(schema: dict[str, object]) -> None:
    assert schema_complaint(schema) is None


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "strin"}, "strin"),
        ({"required": "a"}, "required"),
        ({"properties": []}, "properties"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "draft 2020-12"),
        ({"$ref": "https://example.com/schema.json"}, "outside"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "outside"),
        ({"$ref": "#/$defs/missing"}, "nowhere"),
        ({"$ref": "#"}, "back to itself"),
        ({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}, "back to itself"),
        (unfolding(20), "too many alternatives"),
        (nested(200), "deeper"),
        ({"enum": ["x" * 200_000]}, "bytes"),
        ({"items": {"$id": "other", "type": "string"}}, "$id"),
        ({"pattern": "(a+)+$"}, "repeats"),
        ({"pattern": "(a|aa)*b"}, "repeats"),
        ({"pattern": "(a{1,30}){1,30}b"}, "repeats"),
        ({"pattern": "((ab)*c)+"}, "repeats"),
        ({"pattern": "a*a*a*a*a*b"}, "repeats"),
        ({"pattern": r"(a)\1"}, "refers back"),
        ({"patternProperties": {"(x*)*": {}}}, "repeats"),
        ({"pattern": "("}, "regex"),
        ({"pattern": "a" * 1_000}, "longer"),
        ({"const": object()}, "plain JSON"),
    ],
)
def test_unusable_schemas_are_refused_with_a_reason(schema: dict[str, object], words: str) -> None:
    assert words in str(schema_complaint(schema))


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
