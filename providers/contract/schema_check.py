"""Checks whether a JSON Schema may be a contract: small, valid and self-contained. Pure.

Cheap bounds come first, so that no schema costs the event loop more than 20 ms. Parts that the engine cannot check are
named, not refused.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import structlog

from providers.contract.unfolding import UNEVALUATED
from providers.contract.validation import CompiledSchema, UnusableSchema
from schemas.jsons import JsonObject, dumps

log = structlog.get_logger()

MAX_SCHEMA_BYTES = 100_000
MAX_SCHEMA_DEPTH = 64
MAX_SCHEMA_PARTS = 1_000
MAX_SCHEMA_VALUES = 5_000
"""Most objects and values of a schema: 10 to 20 ms of reading."""

MAX_UNEVALUATED_LEVELS = 12
"""Nesting doubles the work at each level, on every known engine."""

MAX_REMEMBERED = 4_096
"""Verdicts, a few hundred bytes each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SchemaVerdict:
    """Why a schema cannot be a contract, and its parts not checked here."""

    complaint: str | None = None
    unchecked: tuple[str, ...] = ()


_verdicts: OrderedDict[bytes, SchemaVerdict] = OrderedDict()


def schema_verdict(schema: JsonObject) -> SchemaVerdict:
    """Return whether this schema can be a contract."""
    try:
        source = dumps(schema)
    except (TypeError, ValueError, RecursionError):
        return SchemaVerdict(complaint="it is not plain JSON.")
    if len(source) > MAX_SCHEMA_BYTES:
        return SchemaVerdict(complaint=f"it has {len(source)} bytes; at most {MAX_SCHEMA_BYTES} are allowed.")
    digest = hashlib.sha256(source).digest()
    verdict = _verdicts.get(digest)
    if verdict is None:
        verdict = _verdicts[digest] = _verdict(schema)
        if verdict.unchecked:
            log.info("schema_partly_unchecked", digest=digest.hex()[:12], parts=len(verdict.unchecked))
        if len(_verdicts) > MAX_REMEMBERED:
            _verdicts.popitem(last=False)
    else:
        _verdicts.move_to_end(digest)
    return verdict


def _verdict(schema: JsonObject) -> SchemaVerdict:
    complaint = _bounds_complaint(schema)
    if complaint is not None:
        return SchemaVerdict(complaint=complaint)
    try:
        return SchemaVerdict(unchecked=CompiledSchema(schema).unchecked)
    except UnusableSchema as error:
        return SchemaVerdict(complaint=str(error))


def _bounds_complaint(schema: JsonObject) -> str | None:
    parts = values = 0
    waiting: list[tuple[Any, int, int]] = [(schema, 1, 0)]
    while waiting:
        node, level, unevaluated = waiting.pop()
        if level > MAX_SCHEMA_DEPTH:
            return f"it nests deeper than {MAX_SCHEMA_DEPTH} levels."
        if isinstance(node, dict):
            parts += 1
            unevaluated += any(name in node for name in UNEVALUATED)
        values += 1 + len(node)
        if values > MAX_SCHEMA_VALUES:
            return f"it has more than {MAX_SCHEMA_VALUES} values."
        if parts > MAX_SCHEMA_PARTS:
            return f"it has more than {MAX_SCHEMA_PARTS} parts."
        if unevaluated > MAX_UNEVALUATED_LEVELS:
            return f"it nests unevaluatedProperties or unevaluatedItems deeper than {MAX_UNEVALUATED_LEVELS} levels."
        below = node.values() if isinstance(node, dict) else node
        waiting.extend((part, level + 1, unevaluated) for part in below if isinstance(part, dict | list))
    return None
