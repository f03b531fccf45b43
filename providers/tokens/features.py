"""Counts the bytes of a prompt by class, to estimate its tokens. Pure and cheap.

UTF-8's lead bytes tell scripts apart, so translations in C replace a loop over characters.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from providers.tokens.bound import media_of
from schemas.jsons import JsonObject, dumps

SAMPLED_BEYOND_BYTES = 32_768
"""A longer text is sampled at start, middle and end, so that the cost stays flat."""

BYTE_CLASSES = "bytes/1"
"""Names these features in stored sums. Raise the number when they change."""


class Shape(StrEnum):
    """Kind of a request, calibrated separately: providers write each in their own way."""

    PLAIN = "plain"
    STRUCTURED = "structured"
    MEDIA = "media"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """The text that a model reads, as UTF-8, and what is counted besides."""

    shape: Shape
    text: bytes
    messages: int
    media_tokens: int


def prompt_of(body: JsonObject) -> Prompt | None:
    """Return the prompt of a chat request; None without a list of messages."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return None
    texts: list[str] = []
    media_tokens = sum(_read(message, texts) for message in messages)
    frame = [body[name] for name in _FRAME if body.get(name)]
    texts.extend(dumps(part).decode() for part in frame)
    return Prompt(
        shape=Shape.MEDIA if media_tokens else Shape.STRUCTURED if frame else Shape.PLAIN,
        text="\n".join(texts).encode("utf-8", "surrogatepass"),
        messages=len(messages),
        media_tokens=media_tokens,
    )


def features_of(prompt: Prompt) -> tuple[float, ...]:
    """Count runs, Latin letters and marks, other scripts, media and messages."""
    sample, scale = sample_of(prompt.text)
    classes = sample.translate(_CLASSES)
    runs = [len(sample.translate(table).split()) * scale for table in _RUNS]
    latin = [classes.count(mark) * scale for mark in _LATIN]
    scripts = _NO_SCRIPTS if sample.isascii() else [classes.count(mark) * scale for mark in _SCRIPT_MARKS]
    return (*runs, *latin, *scripts, float(prompt.media_tokens), float(prompt.messages), 1.0)


def sample_of(text: bytes) -> tuple[bytes, float]:
    """Return the counted part of a text, and its scale."""
    if len(text) <= SAMPLED_BEYOND_BYTES:
        return text, 1.0
    window = SAMPLED_BEYOND_BYTES // 3
    middle = (len(text) - window) // 2
    sample = text[:window] + text[middle : middle + window] + text[-window:]
    return sample, len(text) / len(sample)


def _read(message: object, texts: list[str]) -> int:
    """Appends the message's texts; returns the tokens of its media."""
    if not isinstance(message, dict):
        return 0
    content = message.get("content")
    if isinstance(content, str):
        texts.append(content)
    texts.extend(dumps(value).decode() for name, value in message.items() if name not in _READ_APART and value)
    return sum(_read_part(part, texts) for part in content) if isinstance(content, list) else 0


def _read_part(part: object, texts: list[str]) -> int:
    match part:
        case {"type": "text", "text": str(text)}:
            texts.append(text)
            return 0
        case dict() if media := media_of(part):
            return media.tokens
    texts.append(dumps(part).decode())
    return 0


def _table(classes: Iterable[tuple[str, Iterable[int]]], default: str) -> bytes:
    table = bytearray(default.encode() * 256)
    for mark, codes in classes:
        for code in codes:
            table[code] = ord(mark)
    return bytes(table)


def _ascii(keep: str) -> Iterator[int]:
    return (code for code in range(128) if getattr(chr(code), keep)())


_READ_APART = {"role", "content"}
_FRAME = ("tools", "functions", "response_format")
"""Parts besides messages that a provider writes into the prompt."""

_MARKS = [code for code in range(33, 127) if not chr(code).isalnum()]
_SCRIPTS = (
    ("E", (*range(0xC3, 0xD0), 0xE1)),  # accented Latin and Greek
    ("Y", range(0xD0, 0xD4)),  # Cyrillic
    ("A", range(0xD4, 0xE0)),  # Armenian, Hebrew, Arabic
    ("I", (0xE0,)),  # Indic scripts and Thai
    ("S", (0xC2, 0xE2, 0xEE, 0xEF)),  # signs, wide forms
    ("K", (0xE3,)),  # kana and the marks of Chinese and Japanese
    ("H", range(0xE4, 0xEA)),  # Han
    ("G", range(0xEA, 0xEE)),  # Hangul
    ("F", range(0xF0, 0x100)),  # beyond the basic plane: emoji
)
_CLASSES = _table(
    (
        ("l", _ascii("islower")),
        ("u", _ascii("isupper")),
        ("d", _ascii("isdigit")),
        ("p", _MARKS),
        ("n", (10, 13)),
        ("s", (9, 32)),
        *_SCRIPTS,
    ),
    default="c",
)
_LATIN = (b"l", b"u", b"d", b"p", b"n", b"ss", b"lu", b"ul", b"ld", b"dl")
_SCRIPT_MARKS = tuple(mark.encode() for mark, _ in _SCRIPTS)
_NO_SCRIPTS = [0.0] * len(_SCRIPT_MARKS)
_LETTERS = [*_ascii("isalpha"), *range(128, 256)]
_RUNS = (_table([("a", _LETTERS)], " "), _table([("a", _ascii("isdigit"))], " "), _table([("a", _MARKS)], " "))
