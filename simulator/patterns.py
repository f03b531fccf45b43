"""Generates text that matches a regular expression, for the `pattern` of a schema.

Supports literals, classes, groups, alternatives, the usual escapes and quantifiers. Not look-around, back references
and Unicode classes: `matching` then returns None and the caller falls back.
"""

import random
import string

from jsonschema_rs import RegexOptions, validator_for

_CLASSES = {
    "d": string.digits,
    "w": string.ascii_letters + string.digits + "_",
    "s": " ",
    "D": string.ascii_letters,
    "W": "-.,:",
    "S": string.ascii_letters + string.digits,
}
_ANY = string.ascii_lowercase + string.digits
_PRINTABLE = string.ascii_letters + string.digits + " -_.,:;/@#"
_MOST_ATOMS = 500  # per pattern; a count may ask for any number of them
_MORE = 3  # how far an open quantifier may exceed its minimum


class _Unknown(ValueError):  # noqa: N818 - never leaves this module
    """An unsupported construct."""


def matching(pattern: str, chance: random.Random) -> str | None:
    """Return a text that matches the pattern, or None where that is unsupported."""
    try:
        text = _Writer(pattern, chance).alternatives()
        finds = validator_for({"pattern": pattern}, pattern_options=RegexOptions())  # no backtracking: time is linear
        return text if finds.is_valid(text) else None
    except (_Unknown, IndexError, ValueError, OverflowError, RecursionError):
        return None


class _Writer:
    """A recursive descent over the pattern that writes text while it parses."""

    def __init__(self, pattern: str, chance: random.Random) -> None:
        self._left, self._chance = list(reversed(pattern)), chance
        self._atoms = 0

    def alternatives(self) -> str:
        """Write one of the branches; parse all."""
        branches = [self._branch()]
        while self._left and self._left[-1] == "|":
            self._left.pop()
            branches.append(self._branch())
        return self._chance.choice(branches)

    def _branch(self) -> str:
        written: list[str] = []
        while self._left and self._left[-1] not in "|)":
            mark = list(self._left)
            self._atom()
            times = self._times()
            after = list(self._left)
            for _ in range(times):  # parse the atom again each time, so that each time draws anew
                self._left = list(mark)
                written.append(self._atom())
            self._left = after
        return "".join(written)

    def _atom(self) -> str:
        self._atoms += 1
        if self._atoms > _MOST_ATOMS:
            raise _Unknown("too many")
        char = self._left.pop()
        match char:
            case "^" | "$":
                return ""
            case ".":
                return self._chance.choice(_ANY)
            case "[":
                return self._chance.choice(self._class())
            case "(":
                return self._group()
            case "\\":
                return self._chance.choice(self._escape())
            case "*" | "+" | "?" | "{":
                raise _Unknown(char)
        return char

    def _group(self) -> str:
        if self._left[-1] == "?":
            self._left.pop()
            if self._left.pop() != ":":
                raise _Unknown("group")
        text = self.alternatives()
        if self._left.pop() != ")":
            raise _Unknown("group")
        return text

    def _escape(self) -> str:
        char = self._left.pop()
        if char in _CLASSES:
            return _CLASSES[char]
        if char in "bB" or char.isdigit():
            raise _Unknown(char)
        return {"n": "\n", "t": "\t", "r": "\r"}.get(char, char)

    def _class(self) -> str:
        negated = self._left[-1] == "^"
        if negated:
            self._left.pop()
        found = ""
        while self._left[-1] != "]" or not found:
            char = self._left.pop()
            chosen = self._escape() if char == "\\" else char
            if len(chosen) == 1 and self._left[-1] == "-" and self._left[-2] != "]":
                self._left.pop()
                chosen = "".join(map(chr, range(ord(chosen), ord(self._left.pop()) + 1)))
            found += chosen
        self._left.pop()
        return "".join(char for char in _PRINTABLE if char not in found) if negated else found

    def _times(self) -> int:
        if not self._left:
            return 1
        match self._left[-1]:
            case "*":
                least, most = 0, _MORE
            case "+":
                least, most = 1, _MORE
            case "?":
                least, most = 0, 1
            case "{":
                return self._counted()
            case _:
                return 1
        self._left.pop()
        return self._lazily(self._chance.randint(least, most))

    def _counted(self) -> int:
        self._left.pop()
        inside = ""
        while self._left[-1] != "}":
            inside += self._left.pop()
        self._left.pop()
        least, comma, most = inside.partition(",")
        low = int(least)
        high = low if not comma else int(most) if most else low + _MORE
        return self._lazily(self._chance.randint(low, high))

    def _lazily(self, times: int) -> int:
        if self._left and self._left[-1] in "?+":
            self._left.pop()
        return times
