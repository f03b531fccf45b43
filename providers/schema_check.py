"""Whether a JSON Schema may be used as a contract: valid, self-contained, and cheap to check. Pure.

Refused: what is no JSON Schema, references that lead outside or nowhere, references that go round without consuming
anything, schemas that unfold to a multiple of their size, and patterns on which a regular expression can run for ever.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from schemas.jsons import JsonObject

MAX_SCHEMA_BYTES = 100_000
MAX_SCHEMA_DEPTH = 64
MAX_SCHEMA_NODES = 5_000
MAX_UNFOLDED = 20_000
"""Subschemas that one value may have to meet at one place, references unfolded."""

MAX_PATTERN_CHARACTERS = 256
MAX_REPETITIONS = 4
"""Repetitions side by side multiply with the length of the text, each by itself."""

MAX_REMEMBERED = 256
"""Schemas whose verdict is remembered, with their text: at worst 25 MB."""

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_SAME_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
_SAME_PLACE = ("not", "if", "then", "else")
_SAME_PLACE_MAPS = ("dependentSchemas",)
_UNBOUNDED = re.compile(r"[*+]|\{\d*,(?:\d{2,})?\}")  # ranges that reach 10 multiply as if they had no end
_DATA = frozenset({"const", "enum", "default", "examples"})


def schema_complaint(schema: JsonObject) -> str | None:
    """Why this schema cannot be a contract, in one sentence; None when it can."""
    try:
        plain = orjson.dumps(schema)
    except TypeError:
        return "it is not plain JSON, or nests too deeply."
    if len(plain) > MAX_SCHEMA_BYTES:
        return f"it has {len(plain)} bytes; at most {MAX_SCHEMA_BYTES} are allowed."
    return _remembered_complaint(plain)


@lru_cache(MAX_REMEMBERED)
def _remembered_complaint(plain: bytes) -> str | None:
    """The lines of a batch bring the same schema again and again, and checking one takes some milliseconds."""
    schema = orjson.loads(plain)
    return _form_complaint(schema) or _parts_complaint(schema) or _unfolding_complaint(schema)


def _form_complaint(schema: JsonObject) -> str | None:
    if schema.get("$schema", DRAFT) not in {DRAFT, DRAFT + "#"} and "draft-07" not in str(schema["$schema"]):
        return "$schema must name draft 2020-12 or be left out."
    if _depth(schema) > MAX_SCHEMA_DEPTH:
        return f"it nests deeper than {MAX_SCHEMA_DEPTH} levels."
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = "/".join(str(step) for step in error.absolute_path)
        return f"{place or 'the schema'}: {error.message[:200]}"
    return None


def _parts_complaint(schema: JsonObject) -> str | None:
    for number, node in enumerate(_objects(schema)):
        if number > MAX_SCHEMA_NODES:
            return f"it has more than {MAX_SCHEMA_NODES} parts."
        complaint = _reference_complaint(schema, node) or _patterns_complaint(node)
        if complaint is not None:
            return complaint
    return None


def _reference_complaint(root: JsonObject, node: JsonObject) -> str | None:
    if node is not root and isinstance(node.get("$id"), str):
        return "$id within a schema is not supported; use $defs and #/$defs/NAME."
    for name in ("$ref", "$dynamicRef"):
        reference = node.get(name)
        if not isinstance(reference, str):
            continue
        if not reference.startswith("#"):
            return f"{name} {reference[:100]!r} leads outside of the schema; nothing is fetched."
        if _target(root, reference) is None:
            return f"{name} {reference[:100]!r} leads nowhere."
    return None


def _patterns_complaint(node: JsonObject) -> str | None:
    keyed = node.get("patternProperties")
    patterns = [node.get("pattern"), *(keyed if isinstance(keyed, dict) else ())]
    for pattern in patterns:
        if isinstance(pattern, str) and (reason := _pattern_complaint(pattern)):
            return f"the pattern {pattern[:80]!r} {reason}"
    return None


def _pattern_complaint(pattern: str) -> str | None:
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        return f"is longer than {MAX_PATTERN_CHARACTERS} characters."
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"is no regular expression: {error}."
    if re.search(r"\\[1-9]|\(\?P=", pattern):
        return "refers back to a group, which can take for ever."
    return "repeats too much, or repeats a group that repeats or branches." if _explodes(pattern) else None


def _explodes(pattern: str) -> bool:
    """Whether a group with a repetition or a branch in it is repeated without bound, or there are too many."""
    plain = re.sub(r"\\.", "x", pattern)
    plain = re.sub(r"\[\^?\]?[^\]]*\]", "x", plain)
    while innermost := re.search(r"\((?:\?[:=!]|\?<[=!]|\?P<\w+>)?([^()]*)\)", plain):
        inner, after = innermost[1], plain[innermost.end() :]
        wild = _UNBOUNDED.search(inner) is not None or "|" in inner
        if wild and _UNBOUNDED.match(after):
            return True
        plain = plain[: innermost.start()] + ("x+" if wild else "x") + after
    return len(re.findall(r"[*+]", plain)) > MAX_REPETITIONS


def _unfolding_complaint(schema: JsonObject) -> str | None:
    sizes: dict[int, int | None] = {}
    try:
        largest = max(_unfolded(schema, node, sizes) for node in _objects(schema))
    except (RecursionError, _RoundError):
        return "a reference leads back to itself without going into a property or an item."
    return None if largest <= MAX_UNFOLDED else "its references unfold to too many alternatives."


class _RoundError(Exception):
    """A reference leads back to itself at the same place."""


def _unfolded(root: JsonObject, node: Any, sizes: dict[int, int | None]) -> int:  # noqa: ANN401 - any part of a schema
    """Subschemas to be met at one place; counted once per node, so that counting is cheap where unfolding is not."""
    if not isinstance(node, dict):
        return 1
    known = sizes.get(id(node), 0)
    if known is None:
        raise _RoundError
    if known:
        return known
    sizes[id(node)] = None
    size = 1 + sum(_unfolded(root, part, sizes) for part in _same_place(root, node))
    sizes[id(node)] = size
    return size


def _same_place(root: JsonObject, node: JsonObject) -> Iterator[Any]:
    for name in ("$ref", "$dynamicRef"):
        if isinstance(node.get(name), str):
            yield _target(root, node[name])
    for name in _SAME_PLACE:
        yield node.get(name)
    for name in _SAME_PLACE_LISTS:
        listed = node.get(name)
        yield from listed if isinstance(listed, list) else ()
    for name in _SAME_PLACE_MAPS:
        mapped = node.get(name)
        yield from mapped.values() if isinstance(mapped, dict) else ()


def _target(root: JsonObject, reference: str) -> Any:  # noqa: ANN401 - any part of a schema
    """What a local reference names: a JSON pointer or an anchor; None where there is nothing."""
    pointer = reference.removeprefix("#")
    if pointer and not pointer.startswith("/"):
        named = (node for node in _objects(root) if pointer in {node.get("$anchor"), node.get("$dynamicAnchor")})
        return next(named, None)
    found: Any = root
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found


def _objects(node: Any) -> Iterator[JsonObject]:  # noqa: ANN401 - any part of a schema
    """Every object of a schema that is not data within `const`, `enum` and the like."""
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting.extend(value for name, value in part.items() if name not in _DATA)
        elif isinstance(part, list):
            waiting.extend(part)


def _depth(node: Any) -> int:  # noqa: ANN401 - any part of a schema
    level, depth = [node], 0
    while level:
        depth += 1
        level = [child for part in level if isinstance(part, dict | list) for child in _children(part)]
    return depth


def _children(part: Any) -> list[Any]:  # noqa: ANN401 - any part of a schema
    return list(part.values()) if isinstance(part, dict) else part
