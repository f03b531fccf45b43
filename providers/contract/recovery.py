"""Finds the intended JSON in a reply. Pure.

All candidates are offered, because only the contract shows which was meant. Results keep digits and are storable.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any

from json_repair.json_parser import JSONParser

from providers.contract.work import PARSE_STEPS_PER_CHARACTER, REPAIR_STEPS_PER_CHARACTER, Size, Work, size_of
from schemas.jsons import MAX_REPLY_LEVELS, MalformedJson, number, parse, parse_embedded
from schemas.storable import storable

MAX_EMBEDDED = 64
"""Openings tried: a reply with more is prose, and each costs a parse."""

MAX_REPAIRED_CHARACTERS = 100_000
"""Characters of all pieces: half a second of slow Python. Reprompting a longer reply is cheaper."""

MAX_REPAIRED_DEPTH = 64
"""Unclosed brackets cost a tenth of a millisecond each and yield nothing."""

_FENCE = re.compile(r"```[ \t]*[\w+-]*[ \t]*\r?\n?(.*?)(?:```|\Z)", re.DOTALL)
_OPENING = re.compile(r"[{\[]")
_BRACKET = re.compile(r"[][{}]")
_STEP = {"{": 1, "[": 1, "}": -1, "]": -1}


class Step(StrEnum):
    """How a candidate was found."""

    DIRECT = "direct"
    FENCED = "fenced"
    EMBEDDED = "embedded"
    REPAIRED = "repaired"


@dataclass(frozen=True, slots=True)
class Candidate:
    """JSON that the model may have meant."""

    step: Step
    value: Any
    size: Size


def candidates(text: str, work: Work) -> Iterator[Candidate]:
    """Yield possible JSON, the most literal first; lazy. Raises TooMuchWork."""
    work.spend(len(text) * PARSE_STEPS_PER_CHARACTER)
    is_json, direct = _parsed(text)
    if is_json:
        yield Candidate(Step.DIRECT, direct, size_of(text))
        if isinstance(direct, dict | list):
            return
    work.spend(len(text) * PARSE_STEPS_PER_CHARACTER)
    blocks = [block.strip() for block in _FENCE.findall(text)]
    for block in blocks:
        is_json, value = _parsed(block)
        if is_json:
            yield Candidate(Step.FENCED, value, size_of(block))
    for value, size in _embedded(text, work):
        yield Candidate(Step.EMBEDDED, value, size)
    repairable = MAX_REPAIRED_CHARACTERS
    for piece in [*blocks, text]:
        if len(piece) <= repairable:
            repairable -= len(piece)
            value = _repaired(piece, work)
            if isinstance(value, dict | list) and value:
                yield Candidate(Step.REPAIRED, value, size_of(piece))


def _parsed(text: str) -> tuple[bool, Any]:
    try:
        return True, storable(parse(text, most_levels=MAX_REPLY_LEVELS))
    except MalformedJson:
        return False, None


def _embedded(text: str, work: Work) -> Iterator[tuple[Any, Size]]:
    position = 0
    for _ in range(MAX_EMBEDDED):
        opening = _OPENING.search(text, position)
        if opening is None:
            return
        begin = opening.start()
        try:
            value, end = parse_embedded(text, begin)
        except MalformedJson as error:
            position = opening.end()
            read_to = len(text) if error.at is None else error.at
            work.spend((read_to - begin) * PARSE_STEPS_PER_CHARACTER)
        else:
            position = end
            work.spend((end - begin) * PARSE_STEPS_PER_CHARACTER)
            yield storable(value), size_of(text[begin:end])


def _repaired(text: str, work: Work) -> Any:  # noqa: ANN401 - whatever JSON it is
    opening = _OPENING.search(text)
    if opening is None:
        return None
    work.spend(len(text) * REPAIR_STEPS_PER_CHARACTER)
    if _depth(text) > MAX_REPAIRED_DEPTH:
        return None
    try:
        return storable(_Repairer(text[opening.start() :]).parse())
    except (ValueError, TypeError, RecursionError):  # some of its results are no JSON values either
        return None


def _depth(text: str) -> int:
    """Includes brackets in strings; an upper bound is enough."""
    depths = accumulate(_BRACKET.findall(text), lambda depth, bracket: max(depth + _STEP[bracket], 0), initial=0)
    return max(depths)


class _Repairer(JSONParser):
    """json_repair without losing digits."""

    def __init__(self, text: str) -> None:
        super().__init__(text, None, logging=False)

    def parse_number(self) -> Any:  # noqa: ANN401 - a number, or a text that began like one
        start = self.index
        value = super().parse_number()
        return number(self.json_str[start : self.index].replace("_", "")) if isinstance(value, float) else value
