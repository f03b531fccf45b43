"""Groups dead letters by reason and by the last complaint without its values. Pure.

Of several complaints the first counts, because it is nearest to the root.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from schemas.decision import DeadReason

MAX_READ_CHARACTERS = 400
"""The first complaint has at most 240 characters; pattern time is quadratic in the text."""

MAX_WORDS_CHARACTERS = 160
DIGEST_CHARACTERS = 12
GAP = "…"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """A cause of death; `fingerprint` begins with the reason, `words` are for people."""

    fingerprint: str
    words: str


def cause_of(reason: str, message: str | None) -> Cause:
    """Return the cause of a death."""
    words = _declined(message or "") if reason == DeadReason.REFUSED else without_values(message or "")
    words = words or reason.replace("_", " ")
    digest = hashlib.sha256(f"{reason}\0{words}".encode()).hexdigest()
    return Cause(fingerprint=f"{reason}.{digest[:DIGEST_CHARACTERS]}", words=words)


def without_values(message: str) -> str:
    """Remove all text of callers and models from an error or complaint."""
    text = " ".join(message[:MAX_READ_CHARACTERS].split())
    matches = [(match, describe) for pattern, describe in _RULES if (match := pattern.match(text))]
    if not matches:
        return _with_gaps(text)
    match, describe = min(matches, key=lambda pair: pair[0].end())
    place = _place(match["path"] or "")
    return f"{place}: {describe(match)}" if place else describe(match)


def _declined(message: str) -> str:
    return "a content filter cut the reply" if "content filter" in message else "the model refused"


def _place(path: str) -> str:
    """Example: `lines[].sku`, `prices.*`."""
    steps = re.sub(r"\[\d+\]", "[]", path).split(".")
    return ".".join("*" if len(re.findall(r"\d", step)) >= _ID_DIGITS else step for step in steps)


_ID_DIGITS = 3
"""A name with this many digits is a model's key, not a schema's field."""

_QUOTED = re.compile(r"""(?<!\w)'[^']*'(?!\w)|"[^"]*"|`[^`]*`|“[^”]*”""")
_NAMED = re.compile(
    r"""(\b(?:parameter|param|field|property|argument|value for|type for):? )['"`]([a-z_]+(?:[.\[][\w.\[\]]*)?)['"`]"""
)
_WITH_DIGITS = re.compile(r"\S*\d\S*")
_GAPS = re.compile(rf"{GAP}(?:[\s,;:.()/-]*{GAP})+")
_MARK = "\ue000{}\ue001"
_MARKED = re.compile("\ue000(.*?)\ue001")


def _with_gaps(message: str) -> str:
    marked = _NAMED.sub(lambda match: match[1] + _MARK.format(_place(match[2])), message)
    bare = _WITH_DIGITS.sub(GAP, _QUOTED.sub(GAP, marked))
    return _GAPS.sub(GAP, _MARKED.sub(r"\1", bare))[:MAX_WORDS_CHARACTERS].strip()


Describe: TypeAlias = Callable[[re.Match[str]], str]

_PATH = r"""(?:(?P<path>[^'"{}]{1,300}?): )?"""
_VALUE = rf"""(?P<value>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|['"].* {GAP} .*?|[\[{{\dTFN-].*?)"""
"""A value as Python writes it, possibly shortened in the middle."""


def _rule(tail: str, sentence: Describe | str, value: str = _VALUE) -> tuple[re.Pattern[str], Describe]:
    describe: Describe = (lambda _: sentence) if isinstance(sentence, str) else sentence
    return re.compile(f"{_PATH}{value}{tail}"), describe


def _type(match: re.Match[str]) -> str:
    expected = " or ".join(_KINDS.get(name, name) for name in re.findall(r"'(\w+)'", match["types"]))
    kind = _KINDS[_FIRST.get(match["value"][0], "number")]
    return f"{kind} where {expected} belongs"


_KINDS = {
    "string": "a string",
    "number": "a number",
    "integer": "a whole number",
    "object": "an object",
    "array": "an array",
    "boolean": "a boolean",
    "null": "null",
}
_FIRST = {"'": "string", '"': "string", "[": "array", "{": "object", "T": "boolean", "F": "boolean", "N": "null"}


_RULES: tuple[tuple[re.Pattern[str], Describe], ...] = (
    _rule(r" is not of type (?P<types>'\w+'(?:, '\w+')*)", _type),
    _rule(r"(?P<name>'[^']*') is a required property", lambda found: f"the property {found['name']} is missing", ""),
    _rule(r"Additional properties are not allowed", "properties that the contract does not have", ""),
    _rule(r"(?:Additional|Unevaluated) (?:items|properties) are not allowed", "more than the contract has", ""),
    _rule(r" (?:is|are) not one of \[", "none of the allowed values"),
    _rule(r" (?:was|were) expected", "not the one value that is allowed"),
    _rule(r" does not match ", "does not match its pattern"),
    _rule(r" is not a '(?P<format>[\w-]+)'", lambda found: f"not in the format {found['format']}"),
    _rule(r" (?:is less than|is smaller than)", "less than its minimum"),
    _rule(r" is greater than", "more than its maximum"),
    _rule(r" is not a multiple of ", "not a multiple of what it must be"),
    _rule(r" (?:is too short|should be non-empty|does not have enough properties)", "too short"),
    _rule(r" (?:is too long|has too many properties|is expected to be empty)", "too long"),
    _rule(r" has non-unique elements", "elements that are not unique"),
    _rule(r" does not contain items matching ", "an item is missing"),
    _rule(r" is not valid under any of the given schemas", "none of the alternatives"),
    _rule(r" is valid under each of ", "more than one of the alternatives"),
    _rule(r" should not be valid under ", "what the contract excludes"),
    _rule(r"the text has \d+ characters, too many for its pattern", "too long for its pattern", ""),
    _rule(r"False schema does not allow ", "nothing may stand here", ""),
)
"""Complaints of `providers.contract.validation`. The match that ends first is the first complaint."""
