"""Maps rows to dataclasses and back by field names."""

from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from storage.database.statements import Row

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
Kind: TypeAlias = Callable[[Any], Any]


def read_as(kind: type[T], row: Row, **others: Any) -> T:  # noqa: ANN401 - values of any fields
    """Build a `kind` from a row and `others`. Raises KeyError for a missing column.

    Converts enums, tuples and frozen sets.
    """
    values = {name: _converted(row[name], made) for name, made in _conversions(kind) if name not in others}
    return kind(**values, **others)


def values_of(value: "DataclassInstance") -> dict[str, Any]:
    """Return values by field name; a statement ignores others."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _converted(value: Any, made: Kind | None) -> Any:  # noqa: ANN401 - a column
    return value if made is None or value is None else made(value)


@cache
def _conversions(kind: "type[DataclassInstance]") -> tuple[tuple[str, Kind | None], ...]:
    hints = get_type_hints(kind)
    return tuple((field.name, _conversion(hints[field.name])) for field in fields(kind))


def _conversion(hint: Any) -> Kind | None:  # noqa: ANN401 - an annotation
    if get_origin(hint) in {Union, UnionType}:
        hint = next(part for part in get_args(hint) if part is not NoneType)
    made = get_origin(hint) or hint
    is_made = made in {tuple, frozenset} or (isinstance(made, type) and issubclass(made, Enum))
    return made if is_made else None
