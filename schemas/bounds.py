"""Bounds the number of values in a JSON text before parsing, to bound memory.

A parsed `[]` takes about 25 times its two bytes.
"""

from schemas.errors import InvalidRequest

MAX_NODES = 100_000
"""At most about 10 MB parsed. The largest request seen has a few thousand values."""

MOST_QUOTES_OF_A_VALUE = 4
"""A value has at most two strings, itself and its key; more quotes are refused without a full count."""

_STRUCTURE = b'"[{,'
_NO_STRUCTURE = bytes(byte for byte in range(256) if byte not in _STRUCTURE)


def check_nodes(raw: bytes, most: int = MAX_NODES) -> None:
    """Raise InvalidRequest for more than `most` values."""
    if not fits(raw, most):
        raise InvalidRequest(f"The JSON holds more than {most} values (objects, lists, strings and numbers).")


def fits(raw: bytes, most: int = MAX_NODES) -> bool:
    """Whether the text has at most `most` values."""
    if len(raw) <= most or sum(map(raw.count, (b"[", b"{", b","))) < most:
        return True
    structure = _structure(raw)
    return structure.count(b'"') <= MOST_QUOTES_OF_A_VALUE * most and _values(structure) <= most


def node_bound(raw: bytes) -> int:
    """Return an upper bound of the values in the text, at most twice their number.

    A value is the first of all, the first in its container, or follows a comma. For invalid JSON the bound covers all
    that a parser builds.
    """
    return _values(_structure(raw))


def _structure(raw: bytes) -> bytes:
    return raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NO_STRUCTURE)


def _values(structure: bytes) -> int:
    structure = structure.replace(b'""', b"")  # a pair of quotes changes nothing about what is inside strings after it
    outside_strings = b"".join(structure.split(b'"')[::2])
    return 1 + len(outside_strings)
