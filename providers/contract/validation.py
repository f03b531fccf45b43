"""Compiles output contracts and describes what breaks them. Pure.

References stay within the schema; patterns run without backtracking. Work is counted before it is done.
"""

import hashlib
from collections import OrderedDict
from typing import Any

from jsonschema_rs import ReferencingError, ValidationError, Validator, validator_for

from providers.contract.checkable import BrokenPatternError, Checkable, checkable
from providers.contract.complaints import in_words
from providers.contract.patterns import PATTERN_OPTIONS
from providers.contract.schema_weight import weight_of
from providers.contract.unfolding import unfolding_complaint
from providers.contract.work import Size, Work
from schemas.jsons import MAX_REPLY_LEVELS, JsonObject, dumps, is_deeper
from schemas.storable import storable

MAX_COMPILED = 512
"""One per batch that a process sees at once."""

MAX_COMPILED_SOURCE_BYTES = 4_000_000
"""Compiled, it takes about 20 times as much: 80 MB at worst."""

MAX_COMPLAINTS = 3
"""A model fixes a few things at a time; more cost tokens."""

MAX_ENUMERATED_PAIRS = 2_000
"""Schema parts times reply values for which all errors are collected: 13 microseconds each, 26 ms. Beyond, the first
error counts."""

TOO_DEEP = "The value is too deeply nested to be checked."
UNREADABLE = "The value cannot be checked: {}."
WHOLE = "the whole schema: it refers to a part that is not checked"


class UnusableSchema(Exception):  # noqa: N818 - says what it is
    """The schema is invalid or a reference has no target."""


class CompiledSchema:
    """A schema ready to validate values. Raises UnusableSchema."""

    def __init__(self, schema: JsonObject) -> None:
        try:
            part = checkable(schema)
        except BrokenPatternError as error:
            raise UnusableSchema(str(error)) from None
        except ValueError:
            raise UnusableSchema("the schema: a pattern holds half of a surrogate pair.") from None
        if complaint := unfolding_complaint(part.schema):
            raise UnusableSchema(complaint)
        self._validator, part = _compiled(part)
        self._schema = part.schema
        self._weight = weight_of(part.schema)
        self.unchecked = part.unchecked

    def complaint(self, value: Any, size: Size, work: Work) -> str | None:  # noqa: ANN401 - any JSON value
        """Return what is wrong with a value, None if nothing; `size` is its text's. Raises TooMuchWork."""
        work.spend(self._weight.steps(size))
        if size.openings > MAX_REPLY_LEVELS and is_deeper(dumps(value), MAX_REPLY_LEVELS):
            return TOO_DEEP  # some thousands of levels overflow the engine's stack, which ends the process
        try:
            return self._complaint(value, size, work)
        except UnicodeEncodeError:  # half a character
            return self._complaint(storable(value), size, work)
        except RecursionError:
            return TOO_DEEP
        except ValueError as error:  # the engine cannot read the value
            return UNREADABLE.format(str(error)[:200])

    def _complaint(self, value: Any, size: Size, work: Work) -> str | None:  # noqa: ANN401 - any JSON value
        if self._validator.is_valid(value):
            return None
        work.spend(self._weight.error_steps(size))
        errors: list[ValidationError] = []
        if self._weight.parts * size.values <= MAX_ENUMERATED_PAIRS:
            errors = list(self._validator.iter_errors(value))
        else:
            try:
                self._validator.validate(value)
            except ValidationError as error:
                errors = [error]
        errors.sort(key=lambda error: len(error.instance_path))
        return "; ".join(dict.fromkeys(in_words(error, value, self._schema) for error in errors[:MAX_COMPLAINTS]))


class CompiledSchemas:
    """Caches compiled schemas by digest, least recently used out first."""

    def __init__(self) -> None:
        self._by_digest: OrderedDict[bytes, tuple[CompiledSchema, int]] = OrderedDict()
        self._source_bytes = 0

    def of(self, schema: JsonObject) -> CompiledSchema:
        """Return the compiled form of a schema that passed `schema_verdict`."""
        source = dumps(schema)
        digest = hashlib.sha256(source).digest()
        cached = self._by_digest.get(digest)
        if cached is not None:
            self._by_digest.move_to_end(digest)
            return cached[0]
        compiled = CompiledSchema(schema)
        self._by_digest[digest] = compiled, len(source)
        self._source_bytes += len(source)
        while len(self._by_digest) > MAX_COMPILED or (
            self._source_bytes > MAX_COMPILED_SOURCE_BYTES and len(self._by_digest) > 1
        ):
            _, (_, forgotten_bytes) = self._by_digest.popitem(last=False)
            self._source_bytes -= forgotten_bytes
        return compiled


def _compiled(part: Checkable) -> tuple[Validator, Checkable]:
    try:
        return _validator(part.schema), part
    except ValidationError as error:
        if not part.unchecked and not _is_about_a_pattern(error):
            raise UnusableSchema(_message(error)) from None
    except (ReferencingError, ValueError, OverflowError, RecursionError) as error:
        raise UnusableSchema(f"the schema: {str(error)[:200]}") from None
    unchecked = Checkable(schema={}, unchecked=(*part.unchecked, WHOLE))
    return _validator(unchecked.schema), unchecked


def _validator(schema: JsonObject) -> Validator:
    return validator_for(schema, validate_formats=True, pattern_options=PATTERN_OPTIONS, offline=True)


def _is_about_a_pattern(error: ValidationError) -> bool:
    """A reference may lead to such a pattern where no schema is expected."""
    return getattr(error.kind, "format", None) == "regex"


def _message(error: ValidationError) -> str:
    place = "/".join(str(step) for step in error.instance_path)
    return f"{place[:100] or 'the schema'}: {error.message[:200]}"
