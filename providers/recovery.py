"""Finding the intended JSON in a reply: direct, fenced block, embedded JSON, repair, in this order. Pure.

Every candidate is offered, because only the contract can tell which one was meant; the step that found it is recorded.
Each step keeps the digits of numbers, and makes storable what it found. A reply that was cut at its output limit never
comes here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any

from json_repair.json_parser import JSONParser

from schemas.jsons import MAX_REPLY_LEVELS, MalformedJson, number, parse, parse_embedded
from schemas.storable import storable

MAX_EMBEDDED = 64
"""Openings that are tried: beyond this a reply is prose with brackets, and each costs a parse."""

MAX_REPAIRED_CHARACTERS = 200_000
"""Repair is a slow walk in Python; a longer reply is reprompted sooner than it is mended."""

MAX_REPAIRED_DEPTH = 64
"""Repairing what opens and never closes costs a tenth of a millisecond per opening, and ends in nothing."""

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
    """A JSON value that the model may have meant."""

    step: Step
    value: Any


def candidates(text: str) -> Iterator[Candidate]:
    """Everything in a reply that may be its JSON, the most literal first. Lazy: later steps cost more."""
    found, direct = _parsed(text)
    if found:
        yield Candidate(Step.DIRECT, direct)
        if isinstance(direct, dict | list):
            return
    blocks = [block.strip() for block in _FENCE.findall(text)]
    for block in blocks:
        found, value = _parsed(block)
        if found:
            yield Candidate(Step.FENCED, value)
    for value in _embedded(text):
        yield Candidate(Step.EMBEDDED, value)
    for piece in [*blocks, text]:
        value = _repaired(piece)
        if isinstance(value, dict | list) and value:
            yield Candidate(Step.REPAIRED, value)


def _parsed(text: str) -> tuple[bool, Any]:
    try:
        return True, storable(parse(text, most_levels=MAX_REPLY_LEVELS))
    except MalformedJson:
        return False, None


def _embedded(text: str) -> Iterator[Any]:
    """Each object or array that stands whole in the text and in no other one that was found."""
    position = 0
    for _ in range(MAX_EMBEDDED):
        opening = _OPENING.search(text, position)
        if opening is None:
            return
        try:
            value, position = parse_embedded(text, opening.start())
        except MalformedJson:
            position = opening.end()
        else:
            yield storable(value)


def _repaired(text: str) -> Any:  # noqa: ANN401 - whatever JSON it is
    opening = _OPENING.search(text[:MAX_REPAIRED_CHARACTERS])
    if opening is None or len(text) > MAX_REPAIRED_CHARACTERS or _depth(text) > MAX_REPAIRED_DEPTH:
        return None
    try:
        return storable(_Repairer(text[opening.start() :]).parse())
    except (ValueError, TypeError, RecursionError):  # what it makes of some texts is no JSON value either
        return None


def _depth(text: str) -> int:
    """How deep the brackets of a text go, those in its strings included: an upper bound is enough."""
    depths = accumulate(_BRACKET.findall(text), lambda depth, bracket: max(depth + _STEP[bracket], 0), initial=0)
    return max(depths)


class _Repairer(JSONParser):
    """json_repair with numbers that keep their digits."""

    def __init__(self, text: str) -> None:
        super().__init__(text, None, logging=False)

    def parse_number(self) -> Any:  # noqa: ANN401 - a number, or a text that began like one
        """Read one number; what json_repair takes for a double is read again from its own characters."""
        start = self.index
        value = super().parse_number()
        return number(self.json_str[start : self.index].replace("_", "")) if isinstance(value, float) else value
