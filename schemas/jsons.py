"""Reads and writes JSON of callers and models without losing digits. Pure.

The standard library reads texts that orjson would round or refuse. A number that a double cannot hold becomes a
`Decimal`.
"""

import json
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, Final, TypeAlias

import orjson

JsonObject: TypeAlias = dict[str, Any]

MAX_NUMBER_CHARACTERS = 4_300
"""Characters of one number; Python reads no longer integer."""

MAX_EXPONENT = 10_000
"""Exponent of one number; 1e999999999 as an integer would fill the memory."""

MAX_REQUEST_LEVELS = 64
"""Far above normal nesting; views of a request nest a few levels deeper."""

MAX_REPLY_LEVELS = 200
"""With a view's levels this stays below orjson's 254."""

MAX_SAFE_CHARACTERS = 16
"""Characters that surely survive a double: fifteen digits and a point."""

SORTED_KEYS: Final = orjson.OPT_SORT_KEYS
NEW_LINE: Final = orjson.OPT_APPEND_NEWLINE

_NUMBERS_ONLY: Final = bytes(
    ord("0") if chr(code) in "0123456789." else ord("e") if chr(code) in "eE" else code for code in range(256)
)
_NO_NUMBER: Final = bytes(code for code in range(256) if chr(code) not in '0123456789.eE-,:"[]{}')
"""Deleted before digits are counted; the marks between numbers stay."""
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_NO_NESTING: Final = bytes(code for code in range(256) if chr(code) not in '"[]{}')
_MANY_DIGITS: Final = b"0" * (MAX_SAFE_CHARACTERS + 1)
_TINY: Final = b"0e-000"
_INFINITE: Final = {"Infinity": Decimal("1E+999"), "-Infinity": Decimal("-1E+999"), "NaN": None}


class MalformedJson(ValueError):  # noqa: N818 - says what the text is
    """The text is no JSON, nests too deeply, or holds too long a number.

    `at` is the character at which reading ended, if known.
    """

    def __init__(self, message: str, at: int | None = None) -> None:
        super().__init__(message)
        self.at = at


class JsonBeyondBounds(MalformedJson):
    """The JSON nests too deeply or holds too long a number."""


def parse(raw: bytes | bytearray | str, *, most_levels: int | None = None) -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON, keeping escaped lone surrogates. Raises MalformedJson."""
    return _parsed(raw, _refused_constant, most_levels)


def parse_reply(raw: bytes | bytearray | str) -> Any:  # noqa: ANN401 - any JSON value
    """Parse a provider's JSON with NaN and Infinity. Raises MalformedJson.

    NaN becomes null; Infinity becomes 1E+999, which readers of doubles read as infinity.
    """
    return _parsed(raw, _INFINITE.__getitem__, MAX_REPLY_LEVELS)


def parse_embedded(text: str, start: int) -> tuple[Any, int]:
    """Return the JSON value at `start`, and its end. Raises MalformedJson."""
    try:
        value, end = _EMBEDDED.raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        raise MalformedJson(str(error), at=getattr(error, "pos", None)) from None
    if is_deeper(text[start:end].encode(errors="replace"), MAX_REPLY_LEVELS):
        raise JsonBeyondBounds(f"it nests more than {MAX_REPLY_LEVELS} levels deep")
    return value, end


def object_in(body: JsonObject, name: str) -> JsonObject:
    """Return the object of this name; empty if there is none."""
    value = body.get(name)
    return value if isinstance(value, dict) else {}


def number(text: str) -> float | Decimal:
    """Read a double, or a Decimal if digits would be lost. Raises JsonBeyondBounds."""
    double = float(text)
    if len(text) <= MAX_SAFE_CHARACTERS and _LEAST_NORMAL <= abs(double) <= _MOST:
        return double
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise JsonBeyondBounds("a number is too long")
    try:
        exact = Decimal(text)
    except InvalidOperation:
        raise JsonBeyondBounds("a number has too large an exponent") from None
    if isfinite(double) and Decimal(repr(double)) == exact:
        return double
    if abs(exact.adjusted()) > MAX_EXPONENT:
        raise JsonBeyondBounds("a number has too large an exponent")
    return exact


def dumps(value: Any, option: int = 0) -> bytes:  # noqa: ANN401 - any JSON value
    """Write UTF-8 JSON digit for digit, escaping lone surrogates; `option` takes orjson's options.

    Raises TypeError for other values.
    """
    try:
        return orjson.dumps(value, default=_fragment, option=option)
    except TypeError:  # an integer beyond 64 bits, a lone surrogate, or deeper than orjson goes
        return _written(value, option).encode()


def is_whole(text: str) -> bool:
    """Whether the text holds no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def on_one_line(json_text: str) -> str:
    """Remove line ends, which occur only between values."""
    return json_text.replace("\r", " ").replace("\n", " ") if "\n" in json_text or "\r" in json_text else json_text


def is_deeper(json_text: bytes | bytearray, most_levels: int) -> bool:
    """Whether a JSON text nests more than so many levels deep.

    Works on brackets, one level per pass, because a loop over a million values would block the event loop.
    """
    if json_text.count(b"[") + json_text.count(b"{") <= most_levels:
        return False
    brackets = _brackets(json_text)
    for _ in range(most_levels):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _brackets(json_text: bytes | bytearray) -> bytes:
    """Return the brackets outside of strings, as one kind."""
    unescaped = json_text.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in json_text else json_text
    marks = unescaped.translate(_ONE_KIND, _NO_NESTING).replace(
        b'""', b""
    )  # a pair of quotes holds nothing that counts
    return b"".join(marks.split(b'"')[::2])


def _parsed(raw: bytes | bytearray | str, constant: Any, most_levels: int | None) -> Any:  # noqa: ANN401 - a hook of `json`
    try:
        encoded = raw.encode() if isinstance(raw, str) else raw
        value = _loaded(encoded, constant)
    except (ValueError, RecursionError) as error:
        raise _refusal(error) from None
    if most_levels is not None and is_deeper(encoded, most_levels):
        raise JsonBeyondBounds(f"it nests more than {most_levels} levels deep")
    return value


def _loaded(raw: bytes | bytearray, constant: Any) -> Any:  # noqa: ANN401 - a hook of `json`
    numbers = raw.translate(_NUMBERS_ONLY, _NO_NUMBER)
    if _MANY_DIGITS not in numbers and _TINY not in numbers:
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            pass
    return json.loads(raw.decode("utf-8-sig"), parse_float=number, parse_constant=constant)


def _refusal(error: Exception) -> MalformedJson:
    match error:
        case MalformedJson():
            return error
        case json.JSONDecodeError():
            return MalformedJson(str(error))
        case UnicodeError():
            return MalformedJson("it is not UTF-8")
        case RecursionError():
            return JsonBeyondBounds("it nests too deeply")
        case _:
            return JsonBeyondBounds("a number is too long")


def _refused_constant(name: str) -> Any:  # noqa: ANN401 - never returns
    raise MalformedJson(f"{name} is not JSON")


def _fragment(value: Any) -> orjson.Fragment:  # noqa: ANN401 - whatever orjson does not know
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(str(value))
    raise TypeError(f"{type(value).__name__} is no JSON value")


class _Raw(str):
    __slots__ = ()


def _written(value: Any, option: int) -> str:  # noqa: ANN401 - any JSON value
    """Write what orjson refuses. Not recursive, so depth does not matter."""
    pieces: list[str] = []
    todo = [value]
    while todo:
        node = todo.pop()
        match node:
            case _Raw():
                pieces.append(node)
            case dict():
                names = sorted(node) if option & SORTED_KEYS else list(node)
                pieces.append("{")
                todo.append(_Raw("}"))
                for position in range(len(names) - 1, -1, -1):
                    comma = "," if position else ""
                    todo += (node[names[position]], _Raw(f"{comma}{_name(names[position])}:"))
            case list() | tuple():
                pieces.append("[")
                todo.append(_Raw("]"))
                for position in range(len(node) - 1, -1, -1):
                    todo += (node[position], _Raw(",")) if position else (node[position],)
            case str():
                pieces.append(_quoted(node))
            case int() if not isinstance(node, bool):
                pieces.append(int.__repr__(node))
            case _:
                leaf = option & ~(SORTED_KEYS | NEW_LINE)
                pieces.append(orjson.dumps(node, default=_fragment, option=leaf).decode())
    return "".join(pieces) + ("\n" if option & NEW_LINE else "")


def _name(name: Any) -> str:  # noqa: ANN401 - a key of a dict
    if not isinstance(name, str):
        raise TypeError(f"a key must be text, not {type(name).__name__}")
    return _quoted(name)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=not is_whole(text))


_LEAST_NORMAL: Final = 2.2250738585072014e-308
_MOST: Final = 1.7976931348623157e308
_EMBEDDED: Final = json.JSONDecoder(parse_float=number, parse_constant=_refused_constant)
