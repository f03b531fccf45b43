"""Generates prompts of thirteen kinds from a seed, out of the standard library's texts and word lists.

No text is copied here: prose comes from this Python's docstrings and sources, or is composed at random from the common
words of `words.txt`.
"""

import base64
import difflib
import inspect
import json
import random
import statistics
import string
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

MEAN_CHARACTERS = 2_100
SPREAD = 0.6
"""Sigma of the lengths' lognormal: from some hundred characters to some ten thousand."""

_MODULES = (base64, difflib, inspect, json, random, statistics, string, textwrap)

_WORDS = {
    line.split()[0]: line.split()[1:] for line in Path(__file__).with_name("words.txt").read_text("utf-8").splitlines()
}
_EMOJI_BLOCKS = ((0x1F600, 0x1F64F), (0x1F300, 0x1F5FF), (0x1F680, 0x1F6C5))
_EMOJI = [chr(point) for start, end in _EMOJI_BLOCKS for point in range(start, end)]


@dataclass(frozen=True)
class Document:
    """One prompt's text and its kind."""

    kind: str
    text: str


def _cut(chance: random.Random, text: str, length: int) -> str:
    """Return a piece of a long text that begins at a line."""
    start = chance.randrange(max(1, len(text) - length))
    return text[text.rfind("\n", 0, start) + 1 :][:length]


@cache
def _docstrings() -> str:
    found = [inspect.getdoc(value) or "" for module in _MODULES for value in vars(module).values() if callable(value)]
    return "\n\n".join(dict.fromkeys(doc for doc in found if len(doc) > 60))


@cache
def _source(module: ModuleType) -> str:
    return inspect.getsource(module)


def _english(chance: random.Random, length: int) -> str:
    return _cut(chance, _docstrings(), length)


def _code(chance: random.Random, length: int) -> str:
    return _cut(chance, _source(chance.choice(_MODULES)), length)


def _sentences(chance: random.Random, length: int, words: Sequence[str], joint: str, stop: str) -> str:
    """Return sentences of words, the first of the list most often, with some commas and paragraphs."""
    weights = [1 / (rank + 3) for rank in range(len(words))]
    parts: list[str] = []
    size = 0
    while size < length:
        said = chance.choices(words, weights, k=chance.randint(5, 18))
        said[0] = said[0].capitalize()
        if len(said) > 8:
            said[4] += "," if joint else "\uff0c"
        parts.append(joint.join(said) + stop + chance.choice([" " if joint else "", "\n\n", " " if joint else ""]))
        size += len(parts[-1])
    return "".join(parts)[:length]


def _german(chance: random.Random, length: int) -> str:
    compounds = ["".join(chance.sample(_WORDS["de_parts"], 2)).capitalize() for _ in range(12)]
    return _sentences(chance, length, [*_WORDS["de"], *compounds], " ", ".")


def _in(words: Sequence[str], joint: str, stop: str) -> Callable[[random.Random, int], str]:
    return lambda chance, length: _sentences(chance, length, words, joint, stop)


def _value(chance: random.Random, depth: int) -> object:
    match chance.randint(0, 7 if depth < 3 else 4):
        case 0:
            return chance.randint(0, 10 ** chance.randint(1, 9))
        case 1:
            return round(chance.random() * 1_000, chance.randint(1, 6))
        case 2:
            return " ".join(chance.choices(_WORDS["en"], k=chance.randint(1, 9)))
        case 3:
            return chance.choice([True, False, None])
        case 4:
            return f"{chance.getrandbits(64):016x}"
        case 5:
            return [_value(chance, depth + 1) for _ in range(chance.randint(1, 5))]
    names = ["_".join(chance.sample(_WORDS["en"], chance.randint(1, 2))) for _ in range(chance.randint(2, 6))]
    return {name: _value(chance, depth + 1) for name in names}


def _json(chance: random.Random, length: int) -> str:
    rows: list[str] = []
    while sum(map(len, rows)) < length:
        rows.append(json.dumps([_value(chance, 0) for _ in range(5)], indent=chance.choice([None, 2])))
    return "\n".join(rows)[:length]


def _base64(chance: random.Random, length: int) -> str:
    return base64.b64encode(chance.randbytes(length)).decode()[:length]


def _numbers(chance: random.Random, length: int) -> str:
    rows: list[str] = []
    while sum(map(len, rows)) < length:
        rows.append(
            ",".join(f"{chance.uniform(0, 10 ** chance.randint(0, 6)):.{chance.randint(0, 4)}f}" for _ in range(8))
        )
    return "\n".join(rows)[:length]


def _emoji(chance: random.Random, length: int) -> str:
    return "".join(
        chance.choice([chance.choice(_EMOJI), chance.choice(_WORDS["en"]) + " "]) for _ in range(length // 3)
    )


def _mixed(chance: random.Random, length: int) -> str:
    kinds = chance.sample([kind for kind in KINDS if kind != "mixed"], 3)
    return "\n\n".join(KINDS[kind](chance, length // 3) for kind in kinds)


KINDS: dict[str, Callable[[random.Random, int], str]] = {
    "english": _english,
    "code": _code,
    "json": _json,
    "zh": _in(_WORDS["zh"], "", "。"),
    "ja": _in(_WORDS["ja"], "", "。"),
    "ru": _in(_WORDS["ru"], " ", "."),
    "de": _german,
    "ar": _in(_WORDS["ar"], " ", "."),
    "hi": _in(_WORDS["hi"], " ", "।"),
    "base64": _base64,
    "numbers": _numbers,
    "emoji": _emoji,
    "mixed": _mixed,
}


def documents(count: int, seed: int) -> Iterator[Document]:
    """Yield prompts, kinds in turn and shuffled; the same for the same seed on one Python."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, guards nothing
    kinds = [list(KINDS)[number % len(KINDS)] for number in range(count)]
    chance.shuffle(kinds)
    for kind in kinds:
        length = max(40, int(MEAN_CHARACTERS * chance.lognormvariate(-SPREAD * SPREAD / 2, SPREAD)))
        yield Document(kind, KINDS[kind](chance, length))
