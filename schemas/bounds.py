"""Counts the values of a JSON text before it is parsed, so that memory is bounded by structure and not by bytes.

A parsed `[]` takes some 25 times the two bytes of its text. Strings are left out of the count: prose is full of commas.
"""

from schemas.errors import InvalidRequest

MAX_NODES = 100_000
"""Values of one JSON text (objects, lists, strings, numbers, literals): parsed at most about 10 MB, where the largest
request seen in practice has a few thousand."""

_STRUCTURE = b'"[{,'
_NO_STRUCTURE = bytes(byte for byte in range(256) if byte not in _STRUCTURE)


def check_nodes(raw: bytes, most: int = MAX_NODES) -> None:
    """Raises InvalidRequest where the text may hold more than `most` values."""
    if not fits(raw, most):
        raise InvalidRequest(f"The JSON holds more than {most} values (objects, lists, strings and numbers).")


def fits(raw: bytes, most: int = MAX_NODES) -> bool:
    """Whether the text has at most `most` values. Cheap: strings are told apart only in doubt."""
    return len(raw) <= most or _openings(raw) < most or node_bound(raw) <= most


def node_bound(raw: bytes) -> int:
    """An upper bound of the values in the text, at most twice their number.

    A value is the first of all, the first in its list or object, or stands after a comma. Of a text that is no JSON,
    the count holds for the part before its first fault, which is all that a parser builds.
    """
    without_escapes = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    structure = without_escapes.translate(None, _NO_STRUCTURE)
    structure = structure.replace(b'""', b"")  # a pair of quotes changes nothing about what is inside strings after it
    outside_strings = b"".join(structure.split(b'"')[::2])
    return 1 + len(outside_strings)


def _openings(raw: bytes) -> int:
    return raw.count(b"[") + raw.count(b"{") + raw.count(b",")
