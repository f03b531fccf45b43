"""Generates instances of a JSON Schema by seed: the answers of a provider that follows the given schema.

Covers what structured outputs may use: types, enum, const, $ref, allOf, anyOf, oneOf, nullable types, objects with
required and optional properties, arrays with their bounds, numbers with theirs, strings with length, format and
pattern. It ignores `not`, `if`, `contains` and `patternProperties`.
"""

import json
import math
import random
from decimal import Decimal
from typing import TypeAlias, cast

from simulator.patterns import matching

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_DEEP = 5  # below this only required properties are written, so that a recursive schema ends
_PROSE = (
    "river harbour ledger signal quiet amber market garden notice bridge silver window coast margin forest "
    "cotton engine lantern valley paper station copper island orchard meadow summit canvas anchor"
)
_WORDS = _PROSE.split()
_FORMATS = {
    "date": "2026-03-{day:02d}",
    "date-time": "2026-03-{day:02d}T10:15:00Z",
    "time": "10:15:{day:02d}Z",
    "duration": "P{day}D",
    "email": "person{day}@example.com",
    "hostname": "host{day}.example.com",
    "ipv4": "192.0.2.{day}",
    "ipv6": "2001:db8::{day}",
    "uri": "https://example.com/{day}",
    "uuid": "00000000-0000-4000-8000-0000000000{day:02d}",
}


_MOST_COUNT = 2_000
"""The largest count of items, properties or characters that is followed: a schema may ask for any."""
_MOST_VALUES = 20_000
"""Values of one instance; beyond it, the instance is closed with words whatever the schema says."""


def instance_of(schema: Json, seed: int) -> Json:
    """Return an instance of the schema; the same for the same seed."""
    return _Maker(schema, random.Random(seed)).make(schema, depth=0)  # noqa: S311 - made-up answers, no secrets


def words(chance: random.Random, count: int) -> str:
    """Return this many words of prose."""
    return " ".join(chance.choices(_WORDS, k=count))


class _Maker:
    """One walk down a schema."""

    def __init__(self, root: Json, chance: random.Random) -> None:
        self._root, self._chance = root, chance
        self._made = 0

    def make(self, schema: Json, *, depth: int) -> Json:
        self._made += 1
        if not isinstance(schema, dict) or self._made > _MOST_VALUES:
            return words(self._chance, 2)
        schema = self._plain(schema, depth)
        if "const" in schema:
            return schema["const"]
        if options := _list(schema, "enum"):
            return self._chance.choice(options)
        match self._type(schema, depth):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "integer":
                return self._integer(schema)
            case "number":
                return self._number(schema)
            case "boolean":
                return self._chance.random() < 0.5  # noqa: PLR2004 - heads or tails
            case "null":
                return None
        return self._string(schema)

    def _plain(self, schema: dict[str, Json], depth: int) -> dict[str, Json]:
        """Return the schema with references followed, allOf merged and an alternative chosen."""
        while True:
            if isinstance(reference := schema.get("$ref"), str):
                rest = {key: value for key, value in schema.items() if key != "$ref"}
                schema = _merged(self._target(reference), rest)
            elif parts := _list(schema, "allOf"):
                schema = {key: value for key, value in schema.items() if key != "allOf"}
                for part in parts:
                    schema = _merged(self._plain(_dict(part), depth), schema)
            elif (union := next((key for key in ("anyOf", "oneOf") if _list(schema, key)), None)) is not None:
                chosen = self._choose(_list(schema, union), depth)
                schema = _merged(chosen, {key: value for key, value in schema.items() if key != union})
            else:
                return schema

    def _choose(self, options: list[Json], depth: int) -> dict[str, Json]:
        if depth > _DEEP:
            flat = [option for option in options if not {"$ref", "properties", "items"} & _dict(option).keys()]
            options = flat or options
        return _dict(self._chance.choice(options))

    def _target(self, reference: str) -> dict[str, Json]:
        found: Json = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            found = _dict(found).get(step.replace("~1", "/").replace("~0", "~"))
        return _dict(found)

    def _type(self, schema: dict[str, Json], depth: int) -> str:
        named = schema.get("type")
        if isinstance(named, str):
            return named
        if isinstance(named, list) and named:
            return "null" if depth > _DEEP and "null" in named else str(self._chance.choice(named))
        for key, meant in (("properties", "object"), ("items", "array"), ("minimum", "number"), ("maximum", "number")):
            if key in schema:
                return meant
        return "string"

    def _object(self, schema: dict[str, Json], depth: int) -> Json:
        properties = _dict(schema.get("properties"))
        required = [name for name in _list(schema, "required") if isinstance(name, str)]
        optional = [name for name in properties if name not in required]
        kept = [name for name in optional if depth <= _DEEP and self._chance.random() < 0.75]  # noqa: PLR2004 - most
        missing = _int(schema, "minProperties", 0) - len(required) - len(kept)
        kept += [name for name in optional if name not in kept][: max(0, missing)]
        if "maxProperties" in schema:
            kept = kept[: max(0, _int(schema, "maxProperties", 0) - len(required))]
        wanted = [name for name in properties if name in required or name in kept]
        wanted += [name for name in required if name not in properties]
        found = {name: self.make(properties.get(name, True), depth=depth + 1) for name in wanted}
        extra = schema.get("additionalProperties", True)
        while len(found) < _int(schema, "minProperties", 0) and extra is not False:
            found[f"extra_{len(found)}"] = self.make(extra, depth=depth + 1)
        return found

    def _array(self, schema: dict[str, Json], depth: int) -> Json:
        first = _list(schema, "prefixItems")
        least = max(_int(schema, "minItems", 0), len(first))
        most = max(least, _int(schema, "maxItems", least + 3))
        count = least if depth > _DEEP else self._chance.randint(min(max(least, 1), most), min(most, least + 3))
        items, seen = schema.get("items", True), set[str]()
        found: list[Json] = []
        for _ in range(count * 50):  # uniqueItems may ask for another draw
            if len(found) >= count:
                break
            item = self.make(first[len(found)] if len(found) < len(first) else items, depth=depth + 1)
            text = json.dumps(item, sort_keys=True)
            if text not in seen or not schema.get("uniqueItems"):
                found.append(item)
                seen.add(text)
        return found

    def _integer(self, schema: dict[str, Json]) -> int:
        step = math.ceil(_float(schema, "multipleOf", 1))
        low, high = _bounds(schema, least_step=1)
        return self._chance.randint(math.ceil(low / step), max(math.ceil(low / step), math.floor(high / step))) * step

    def _number(self, schema: dict[str, Json]) -> float:
        if step := _float(schema, "multipleOf", 0):
            low, high = _bounds(schema, least_step=step)
            times = self._chance.randint(math.ceil(low / step), max(math.ceil(low / step), math.floor(high / step)))
            return float(Decimal(str(step)) * times)
        low, high = _bounds(schema, least_step=0)
        value = low + (high - low) * (0.05 + 0.9 * self._chance.random())  # inside, so exclusive bounds hold too
        return short if low < (short := round(value, 2)) < high else value

    def _string(self, schema: dict[str, Json]) -> str:
        if isinstance(pattern := schema.get("pattern"), str):
            text = matching(pattern, self._chance)
            if text is not None:
                return text
        if isinstance(named := schema.get("format"), str) and named in _FORMATS:
            return _FORMATS[named].format(day=self._chance.randint(10, 28))
        text = words(self._chance, self._chance.randint(1, 6))
        least = _int(schema, "minLength", 0)
        while len(text) < least:
            text += " " + words(self._chance, 1 + (least - len(text)) // 8)
        most = _int(schema, "maxLength", len(text))
        return text[:most] if most >= least else text


def _bounds(schema: dict[str, Json], *, least_step: float) -> tuple[float, float]:
    low_given = "minimum" in schema or "exclusiveMinimum" in schema
    high_given = "maximum" in schema or "exclusiveMaximum" in schema
    low = max(_float(schema, "minimum", -math.inf), _float(schema, "exclusiveMinimum", -math.inf) + least_step)
    high = min(_float(schema, "maximum", math.inf), _float(schema, "exclusiveMaximum", math.inf) - least_step)
    if not low_given:
        low = min(0.0, high - 100) if high_given else 0.0
    if not high_given:
        high = low + 100
    return low, high


def _merged(under: dict[str, Json], over: dict[str, Json]) -> dict[str, Json]:
    found = under | over
    if "properties" in under and "properties" in over:
        found["properties"] = _dict(under["properties"]) | _dict(over["properties"])
    if "required" in under and "required" in over:
        found["required"] = [*_list(under, "required"), *_list(over, "required")]
    return found


def _dict(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _list(schema: dict[str, Json], key: str) -> list[Json]:
    value = schema.get(key)
    return value if isinstance(value, list) else []


def _float(schema: dict[str, Json], key: str, otherwise: float) -> float:
    value = schema.get(key)
    return float(cast("float", value)) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise


def _int(schema: dict[str, Json], key: str, otherwise: int) -> int:
    return int(min(_float(schema, key, otherwise), _MOST_COUNT))
