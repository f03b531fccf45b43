"""The output contract as a compiled JSON Schema: does a value meet it, and if not, why, in words fit for the model.

Pure: references reach nothing outside their own schema. Schemas are compiled once per digest; the work of one
validation is bounded, so that no schema and no reply can hold up the other jobs of a process.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from contextvars import ContextVar
from heapq import nsmallest
from itertools import count
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend
from referencing import Registry

from providers.quick_check import quick_check
from schemas.jsons import JsonObject

MAX_COMPILED = 512
"""Schemas kept compiled: batches use one each, so this is as many batches as a process sees at once."""

MAX_COMPLAINTS = 3
"""A model mends a few things at a time; more of them only cost tokens."""

MAX_COMPLAINT_CHARACTERS = 240
MAX_MATCHED_CHARACTERS = 4_096
"""Text that a pattern is tried on: a regular expression may take the square of its length, or worse."""

MAX_EVALUATIONS = 10_000
"""References followed in one validation: about a second at the worst, and far above what an honest schema needs."""

TOO_MUCH_WORK = "The value is too large or too deeply nested to be checked."


_RULES = Draft202012Validator.VALIDATORS
_evaluations: ContextVar[Iterator[int]] = ContextVar("evaluations")


class _TooMuchWorkError(Exception):
    """This value cannot be checked within bounds."""


class CompiledSchema:
    """One schema, ready to judge values."""

    def __init__(self, schema: JsonObject) -> None:
        self._validator = _BoundedValidator(
            schema, registry=Registry(), format_checker=Draft202012Validator.FORMAT_CHECKER
        )
        self._quick = quick_check(schema, most_matched_characters=MAX_MATCHED_CHARACTERS)

    def complaint(self, value: Any) -> str | None:  # noqa: ANN401 - any JSON value
        """What is wrong with the value: path and reason, at most a few; None when it meets the schema."""
        if self._quick is not None and self._quick(value):
            return None
        _evaluations.set(count(1))
        try:
            errors = nsmallest(MAX_COMPLAINTS, self._validator.iter_errors(value), key=_depth)
        except (_TooMuchWorkError, RecursionError, OverflowError):
            return TOO_MUCH_WORK
        return "; ".join(dict.fromkeys(_in_words(error) for error in errors)) or None


class CompiledSchemas:
    """Compiled schemas by digest, the least recently used forgotten first."""

    def __init__(self) -> None:
        self._by_digest: OrderedDict[bytes, CompiledSchema] = OrderedDict()

    def of(self, schema: JsonObject) -> CompiledSchema:
        """The compiled form of a schema that `schema_complaint` had nothing against."""
        digest = hashlib.sha256(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)).digest()
        found = self._by_digest.get(digest)
        if found is None:
            found = self._by_digest[digest] = CompiledSchema(schema)
            if len(self._by_digest) > MAX_COMPILED:
                self._by_digest.popitem(last=False)
        else:
            self._by_digest.move_to_end(digest)
        return found


def _counted(rule: Any) -> Any:  # noqa: ANN401 - a keyword of jsonschema, which is not typed
    def counted(validator: Any, ref: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ANN401
        if next(_evaluations.get()) > MAX_EVALUATIONS:
            raise _TooMuchWorkError
        yield from rule(validator, ref, instance, schema) or ()

    return counted


def _pattern(validator: Any, pattern: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ANN401
    if isinstance(instance, str) and len(instance) > MAX_MATCHED_CHARACTERS:
        yield ValidationError(f"the text has {len(instance)} characters, too many for its pattern")
    else:
        yield from _RULES["pattern"](validator, pattern, instance, schema) or ()


def _depth(error: ValidationError) -> int:
    return len(error.absolute_path)


def _in_words(error: ValidationError) -> str:
    deepest = best_match([error]) or error
    place = _path(deepest.absolute_path)
    reason = f"{place}: {deepest.message}" if place else deepest.message
    if len(reason) <= MAX_COMPLAINT_CHARACTERS:
        return reason
    half = MAX_COMPLAINT_CHARACTERS // 2  # a quoted value is long in the middle; place and reason stand at the ends
    return f"{reason[:half]} … {reason[-half:]}"


def _path(steps: Any) -> str:  # noqa: ANN401 - a deque of names and indexes
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".")


_BoundedValidator = extend(  # type: ignore[no-untyped-call]  # its stub is bare
    Draft202012Validator,
    {"$ref": _counted(_RULES["$ref"]), "$dynamicRef": _counted(_RULES["$dynamicRef"]), "pattern": _pattern},
)
