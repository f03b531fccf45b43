"""Makes values storable in Postgres where they enter. Pure.

Postgres stores no NUL and no lone surrogate. In a provider's text they become U+FFFD; a caller's request with one is
refused.
"""

from collections.abc import Iterator
from typing import Any

from schemas.errors import InvalidRequest
from schemas.jsons import MAX_REQUEST_LEVELS, JsonObject, dumps, is_deeper, is_whole

REPLACEMENT = "\ufffd"

MAX_NAME_CHARACTERS = 256
"""A btree row holds 2,704 bytes, and a character takes up to 4."""

MAX_CALL_TOKENS = 1_000_000_000
"""Far above any model's context; times any price it fits into 64 bits."""

MAX_LATENCY_MS = 2_147_483_647
"""The most that the column holds: 24 days."""

MAX_PLACE_CHARACTERS = 200
"""Shown from the end, because keys may be of any length."""

_ESCAPE = b"\\u"


def storable(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Replace each NUL and lone surrogate by U+FFFD, in strings and keys.

    Split pairs are joined. Of two keys that become equal the last wins. Returns the same object if nothing changed.
    """
    if not _has_escapes(dumps(value)):
        return value
    replaced = _replaced(value)
    return value if replaced == value else replaced


def storable_text(text: str, most_characters: int | None = None) -> str:
    """Make a text storable, and cut it."""
    clean = text if text.isascii() and "\0" not in text else _replace_unstorable(text)
    return clean[:most_characters]


def storable_name(text: str | None) -> str | None:
    """Make a provider's name storable in a column or header."""
    return None if text is None else storable_text(text, MAX_NAME_CHARACTERS)


def refuse_unstorable(value: Any, written: bytes | None = None) -> None:  # noqa: ANN401 - any JSON value
    """Raise InvalidRequest, naming the field, for NUL, lone surrogates or deep nesting."""
    raw = dumps(value) if written is None else written
    if is_deeper(raw, MAX_REQUEST_LEVELS):
        raise InvalidRequest(f"A request may nest at most {MAX_REQUEST_LEVELS} levels deep.", param=_deepest(value))
    if not _has_escapes(raw):
        return
    for place, text in _texts(value):
        if "\0" in text:
            raise InvalidRequest(f"{place} must not hold NUL characters.", param=place)
        if not is_whole(text):
            raise InvalidRequest(f"{place} must not hold half a surrogate pair.", param=place)


def refuse_long_name(name: str, param: str, most_characters: int = MAX_NAME_CHARACTERS) -> None:
    """Raise InvalidRequest if a name is too long or not storable."""
    if len(name) > most_characters or "\0" in name or not is_whole(name):
        raise InvalidRequest(
            f"{param} must have at most {most_characters} characters, and no NUL or half characters among them.",
            param=param,
        )


def _has_escapes(written: bytes) -> bool:
    return b"\\" in written and _ESCAPE in written


def _replaced(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    match value:
        case str():
            return storable_text(value)
        case dict():
            return {storable_text(name): _replaced(item) for name, item in value.items()}
        case list():
            return [_replaced(item) for item in value]
        case _:
            return value


def _replace_unstorable(text: str) -> str:
    if not is_whole(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", REPLACEMENT)


def _texts(value: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON value
    """Yield every string and key with its field's path."""
    todo: list[tuple[str, Any]] = [("", value)]
    while todo:
        place, node = todo.pop()
        match node:
            case str():
                yield place[-MAX_PLACE_CHARACTERS:] or "the body", node
            case dict():
                for name, item in node.items():
                    yield f"a key of {place or 'the body'}", name
                    todo.append((f"{place}.{name}"[-MAX_PLACE_CHARACTERS:] if place else name, item))
            case list():
                todo += [(f"{place}[{position}]", item) for position, item in enumerate(node)]


def _deepest(value: JsonObject | list[Any]) -> str | None:
    members = value.items() if isinstance(value, dict) else ()
    return next((name for name, item in members if is_deeper(dumps(item), MAX_REQUEST_LEVELS - 1)), None)
