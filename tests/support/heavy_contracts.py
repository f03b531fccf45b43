"""Contracts and replies that are short and cost much to check: patterns, values, schemas, texts to recover.

Each is an ordinary request of a tenant; what refuses it at the HTTP door is right too, when it is quick.
"""

import json
from dataclasses import dataclass
from typing import Any

from tests.support.odd_values import contract


@dataclass(frozen=True, kw_only=True)
class HeavyContract:
    """A schema, the reply that is held against it, and what makes each schema another one."""

    name: str
    schema: Any
    content: str = "{}"

    def body(self, number: int = 0) -> dict[str, Any]:
        """The request's own fields. Another number is another schema, so that none is remembered."""
        schema = {**self.schema, "title": f"number {number}"} if isinstance(self.schema, dict) else self.schema
        return contract(schema)

    def harmless(self) -> "HeavyContract":
        """The same number of bytes in schema and reply, and nothing to do for them."""
        schema = {"description": "x" * len(json.dumps(self.schema))}
        return HeavyContract(name=self.name, schema=schema, content=json.dumps("y" * len(self.content)))


def of_pattern(name: str, pattern: str, text: str) -> HeavyContract:
    return HeavyContract(
        name=f"pattern {name}", schema={"type": "string", "pattern": pattern}, content=json.dumps(text)
    )


def conditions(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        schema = {"if": {**schema, "unevaluatedProperties": False}, "unevaluatedProperties": False}
    return schema


def many(number: int, **schema: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - keywords of a schema
    return [{**schema, "description": str(part)} for part in range(number)]


PATTERNS = (
    of_pattern("of four stars", "a*a*a*a*b", "a" * 3_000),
    of_pattern("of optional letters", "a?" * 40 + "a{40}", "a" * 40),
    of_pattern("of nested plus signs", "^(a+)+$", "a" * 40 + "b"),
    of_pattern("in verbose mode", "(?x)^(a+) +$", "a" * 4_000 + "b"),
    of_pattern("of nested counts", "((a{0,9}){0,9}){0,9}b", "a" * 2_000),
    of_pattern("of alternatives", "^(a|a|aa)+$", "a" * 45 + "b"),
    HeavyContract(
        name="pattern of a property's name",
        schema={"type": "object", "patternProperties": {"^(a*a*a*)*b$": {}}},
        content=json.dumps({"a" * 2_000: 1}),
    ),
)
VALUES = (
    HeavyContract(name="12 conditions within each other", schema=conditions(12)),
    HeavyContract(name="60 conditions within each other", schema=conditions(60)),
    HeavyContract(
        name="uniqueItems of 4,000 objects",
        schema={"type": "array", "uniqueItems": True},
        content=json.dumps([{"n": number} for number in range(4_000)]),
    ),
    HeavyContract(
        name="200 items against 10,000 values",
        schema={"type": "array", "items": {"enum": [f"value {number}" for number in range(10_000)]}},
        content=json.dumps(["none of them"] * 200),
    ),
    HeavyContract(
        name="200 items against 900 parts",
        schema={"type": "array", "items": {"allOf": many(900, type="object")}},
        content=json.dumps([{}] * 200),
    ),
    HeavyContract(
        name="900 alternatives for 60 kB",
        schema={"anyOf": many(900, type="null")},
        content=json.dumps("x" * 60_000),
    ),
    HeavyContract(
        name="format regex of 32 kB",
        schema={"type": "string", "format": "regex"},
        content=json.dumps("[a-z]" * 6_400),
    ),
    HeavyContract(
        name="190 kB to recover", schema={"type": "object"}, content="{" + "some words, and then some " * 7_300
    ),
    HeavyContract(name="50,000 open brackets to recover", schema={"type": "array"}, content="[{" * 50_000),
)
SCHEMAS = (
    HeavyContract(name="72 kB of empty schemas", schema={"anyOf": [{}] * 24_000}),
    HeavyContract(name="4,900 parts", schema={"anyOf": many(4_900, type="object")}),
    HeavyContract(name="3,000 open brackets as a pattern", schema={"pattern": "(" * 3_000}),
    HeavyContract(name="a count of 20 digits", schema={"pattern": "a{99999999999999999999}"}),
    HeavyContract(name="a count of 5,000,000,000", schema={"pattern": "^.{0,5000000000}$"}),
    HeavyContract(name="$schema that is an object", schema={"$schema": {}}),
)
ALL = (*PATTERNS, *VALUES, *SCHEMAS)
EACH_KIND = (PATTERNS[0], PATTERNS[6], VALUES[1], VALUES[3], SCHEMAS[0], SCHEMAS[2])
"""Those that were seen to hold a process, for a short run."""
