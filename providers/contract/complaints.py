"""Describes validation errors to a model. Pure.

`schemas.fingerprint` groups causes by this wording.
"""

from collections.abc import Callable, Iterable
from typing import Any

from jsonschema_rs import ValidationError

from schemas.jsons import JsonObject

MAX_COMPLAINT_CHARACTERS = 240
MAX_SHOWN_CHARACTERS = 200
"""Most characters of one value, and of a list of allowed values."""

MAX_SHOWN_ITEMS = 10
MAX_SHOWN_LEVELS = 3
MAX_SHOWN_DIGITS = 40


def in_words(error: ValidationError, value: Any, schema: JsonObject) -> str:  # noqa: ANN401 - any JSON value
    """Describe one error in about `MAX_COMPLAINT_CHARACTERS`."""
    deepest = _deepest(error)
    part = _at(value, deepest.instance_path)
    reason = _reason(deepest, part, schema)
    place = _place(deepest.instance_path)
    return _cut(f"{place}: {reason}" if place else reason, MAX_COMPLAINT_CHARACTERS)


def shown(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a value as Python writes it, cut in the middle, with bounded work."""
    return _cut(_shown(value, MAX_SHOWN_LEVELS), MAX_SHOWN_CHARACTERS)


def _cut(text: str, most_characters: int) -> str:
    """Cuts out the middle of a longer text."""
    half = most_characters // 2
    return text if len(text) <= most_characters else f"{text[:half]} … {text[-half:]}"


def _shown(value: Any, levels: int) -> str:  # noqa: ANN401 - any JSON value
    match value:
        case str():
            return repr(_cut(value, MAX_SHOWN_CHARACTERS))
        case bool() | None | float():
            return repr(value)
        case int():
            bits = value.bit_length()
            return str(value) if bits <= MAX_SHOWN_DIGITS * 3 else f"1 … (a number of about {bits * 3 // 10} digits)"
        case list():
            return "[" + _few((_shown(part, levels - 1) for part in value), len(value), levels) + "]"
        case dict():
            pairs = (f"{_shown(name, 1)}: {_shown(part, levels - 1)}" for name, part in value.items())
            return "{" + _few(pairs, len(value), levels) + "}"
        case _:
            return str(value)[:MAX_SHOWN_DIGITS]  # a decimal


def _few(parts: Iterable[str], number: int, levels: int) -> str:
    if levels <= 0 and number:
        return "…"
    first = [part for part, _ in zip(parts, range(MAX_SHOWN_ITEMS), strict=False)]
    return ", ".join([*first, "…"] if number > MAX_SHOWN_ITEMS else first)


def _deepest(error: ValidationError) -> ValidationError:
    """Returns the alternative's error that got furthest, which was likely meant."""
    while branches := getattr(error.kind, "context", None):
        inner = [problem for branch in branches for problem in branch]
        furthest = max(inner, key=lambda problem: len(problem.instance_path), default=error)
        if len(furthest.instance_path) <= len(error.instance_path):
            return error
        error = furthest
    return error


def _at(value: Any, path: list[str | int]) -> Any:  # noqa: ANN401 - any JSON value
    for step in path:
        value = value[step]
    return value


def _place(path: list[str | int]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _reason(error: ValidationError, part: Any, schema: JsonObject) -> str:  # noqa: ANN401 - any JSON value
    describe = _REASONS.get(type(error.kind).__name__)
    return f"{shown(part)} does not meet {error.kind.name}" if describe is None else describe(error, part, schema)


def _type(error: ValidationError, part: Any, schema: JsonObject) -> str:  # noqa: ANN401 - any JSON value
    """Names the types in the schema's order where the path leads to them."""
    types: list[str] = error.kind.types  # type: ignore[attr-defined]  # of its kind
    declared: Any = schema
    for step in error.schema_path:
        declared = declared.get(step) if isinstance(declared, dict) else None
    in_order = declared if isinstance(declared, list) and set(declared) == set(types) else types
    return f"{shown(part)} is not of type {', '.join(map(repr, in_order))}"


def _property_name(error: ValidationError, _part: Any, schema: JsonObject) -> str:  # noqa: ANN401 - any JSON value
    inner: ValidationError = error.kind.error  # type: ignore[attr-defined]  # of its kind
    return _reason(inner, inner.instance, schema)


def _unexpected(what: str) -> Callable[[ValidationError, Any, JsonObject], str]:
    def describe(error: ValidationError, part: Any, _schema: JsonObject) -> str:  # noqa: ANN401 - any JSON value
        names: list[Any] = getattr(error.kind, "unexpected", None) or part[getattr(error.kind, "limit", 0) :]
        verb = "was" if len(names) == 1 else "were"
        return f"{what} are not allowed ({_few(map(shown, names), len(names), 1)} {verb} unexpected)"

    return describe


def _limit(template: str, name: str = "limit") -> Callable[[ValidationError, Any, JsonObject], str]:

    def describe(error: ValidationError, part: Any, _schema: JsonObject) -> str:  # noqa: ANN401 - any JSON value
        return f"{shown(part)} {template.format(shown(getattr(error.kind, name, None)))}"

    return describe


_REASONS: dict[str, Callable[[ValidationError, Any, JsonObject], str]] = {
    "AdditionalItems": _unexpected("Additional items"),
    "AdditionalProperties": _unexpected("Additional properties"),
    "AnyOf": _limit("is not valid under any of the given schemas"),
    "Constant": lambda error, _part, _schema: f"{shown(error.kind.expected_value)} was expected",  # type: ignore[attr-defined]
    "Contains": _limit("does not contain items matching the given schema as often as it must"),
    "Enum": _limit("is not one of {}", "options"),
    "ExclusiveMaximum": _limit("is greater than or equal to the maximum of {}"),
    "ExclusiveMinimum": _limit("is less than or equal to the minimum of {}"),
    "FalseSchema": lambda _error, part, _schema: f"False schema does not allow {shown(part)}",
    "Format": _limit("is not a {}", "format"),
    "MaxItems": _limit("is too long: at most {} items are allowed"),
    "MaxLength": _limit("is too long: at most {} characters are allowed"),
    "MaxProperties": _limit("has too many properties: at most {} are allowed"),
    "Maximum": _limit("is greater than the maximum of {}"),
    "MinItems": _limit("is too short: at least {} items are needed"),
    "MinLength": _limit("is too short: at least {} characters are needed"),
    "MinProperties": _limit("does not have enough properties: at least {} are needed"),
    "Minimum": _limit("is less than the minimum of {}"),
    "MultipleOf": _limit("is not a multiple of {}", "multiple_of"),
    "Not": lambda error, part, _schema: f"{shown(part)} should not be valid under {shown(error.kind.schema)}",  # type: ignore[attr-defined]
    "OneOfMultipleValid": _limit("is valid under each of several of the given schemas"),
    "OneOfNotValid": _limit("is not valid under any of the given schemas"),
    "Pattern": _limit("does not match {}", "pattern"),
    "PropertyNames": _property_name,
    "Required": lambda error, _part, _schema: f"{shown(error.kind.property)} is a required property",  # type: ignore[attr-defined]
    "Type": _type,
    "UnevaluatedItems": _unexpected("Unevaluated items"),
    "UnevaluatedProperties": _unexpected("Unevaluated properties"),
    "UniqueItems": _limit("has non-unique elements"),
}
