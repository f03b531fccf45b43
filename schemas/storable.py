"""Makes values storable where they enter, so that none of their writes can fail. Pure.

Postgres stores no NUL in text or in a `json` whose fields are read, and no half of a surrogate pair. In a provider's
text they become a visible U+FFFD; a caller's request with one is refused, naming the field.
"""

from collections.abc import Iterator
from typing import Any

from schemas.errors import InvalidRequest
from schemas.jsons import MAX_REQUEST_LEVELS, JsonObject, dumps, is_deeper

REPLACEMENT = "\ufffd"

MAX_NAME_CHARACTERS = 256
"""Characters of an indexed name: a row of a btree holds 2,704 bytes, and a character takes up to 4."""

MAX_CALL_TOKENS = 1_000_000_000
"""Tokens that one call can possibly take, far above any model's context. Times any price they fit into 64 bits."""

MAX_LATENCY_MS = 2_147_483_647
"""The most that the column holds, which is 24 days."""

MAX_PLACE_CHARACTERS = 200
"""Characters of a field's path in a message. The end is shown, because keys may be of any length."""

_ESCAPE = b"\\u"


def storable(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value with U+FFFD for each NUL and lone surrogate, in strings and in keys.

    Separated halves of a pair are joined. Of two keys that become equal the last one wins, as in JSON. Returns the same
    object if nothing was replaced.
    """
    if not _has_escapes(dumps(value)):
        return value
    made = _replaced(value)
    return value if made == value else made


def storable_text(text: str, most_characters: int | None = None) -> str:
    """Make a text storable in a column, and cut it to so many characters."""
    plain = text if text.isascii() and "\0" not in text else _plain(text)
    return plain[:most_characters]


def storable_name(text: str | None) -> str | None:
    """Make a provider's name storable in a column or a header."""
    return None if text is None else storable_text(text, MAX_NAME_CHARACTERS)


def refuse_unstorable(value: Any, written: bytes | None = None) -> None:  # noqa: ANN401 - any JSON value
    """Raise InvalidRequest, naming the field, for a NUL, half a character, or deep nesting.

    `written` is the value as JSON, if the caller has it.
    """
    raw = dumps(value) if written is None else written
    if is_deeper(raw, MAX_REQUEST_LEVELS):
        raise InvalidRequest(f"A request may nest at most {MAX_REQUEST_LEVELS} levels deep.", param=_deepest(value))
    if not _has_escapes(raw):
        return
    for place, text in _texts(value):
        if "\0" in text:
            raise InvalidRequest(f"{place} must not hold NUL characters.", param=place)
        if not _is_whole(text):
            raise InvalidRequest(f"{place} must not hold half a surrogate pair.", param=place)


def refuse_long_name(name: str, param: str, most_characters: int = MAX_NAME_CHARACTERS) -> None:
    """Raise InvalidRequest if a name is too long for an index, or no column can store it."""
    if len(name) > most_characters or "\0" in name or not _is_whole(name):
        raise InvalidRequest(
            f"{param} must have at most {most_characters} characters, and no NUL or half characters among them.",
            param=param,
        )


def _has_escapes(written: bytes) -> bool:
    """Whether JSON text may hold a NUL or half a pair; the search for one character is fast."""
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


def _plain(text: str) -> str:
    if not _is_whole(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", REPLACEMENT)


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _texts(value: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON value
    """Yield every string and key of a value, each with the path of its field."""
    todo: list[tuple[str, Any]] = [("", value)]
    while todo:
        place, node = todo.pop()
        match node:
            case str():
                yield place[-MAX_PLACE_CHARACTERS:] or "the body", node
            case dict():
                for name, item in node.items():
                    yield f"a key of {place or 'the body'}", name
                    if isinstance(item, str | dict | list):
                        todo.append((f"{place}.{name}"[-MAX_PLACE_CHARACTERS:] if place else name, item))
            case list():
                todo += [
                    (f"{place}[{position}]", item)
                    for position, item in enumerate(node)
                    if isinstance(item, str | dict | list)
                ]


def _deepest(value: JsonObject | list[Any]) -> str | None:
    """Return the field of the body below which it nests too deeply."""
    members = value.items() if isinstance(value, dict) else ()
    return next((name for name, item in members if is_deeper(dumps(item), MAX_REQUEST_LEVELS - 1)), None)
