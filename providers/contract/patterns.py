"""Classifies regular expressions by cost on an engine without backtracking. Pure.

Time is linear in text times compiled size. Look-around, back references and patterns beyond `LARGE_PATTERN_BYTES`
cannot run.
"""

from functools import lru_cache

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

MAX_PATTERN_CHARACTERS = 400
"""A longer pattern is not compiled: reading costs up to 15 microseconds a character."""

SMALL_PATTERN_BYTES = 10_000
LARGE_PATTERN_BYTES = 100_000
"""Compiled sizes. Beyond the larger, a character of text can cost ten times as much."""

SMALL_PATTERN_COST = 100
LARGE_PATTERN_COST = 700
"""Steps (`providers.contract.work`) per character: measured 0.6 and 3.5 microseconds at worst."""

MAX_REMEMBERED_PATTERNS = 1_024
"""At worst 2 MB of text."""

PATTERN_OPTIONS = RegexOptions(size_limit=LARGE_PATTERN_BYTES)
_SMALL = RegexOptions(size_limit=SMALL_PATTERN_BYTES)


@lru_cache(MAX_REMEMBERED_PATTERNS)
def pattern_cost(pattern: str) -> int | None:
    """Return the steps per character of text; None if the engine cannot run the pattern."""
    if len(pattern) > MAX_PATTERN_CHARACTERS or not _compiles(pattern, PATTERN_OPTIONS):
        return None
    return SMALL_PATTERN_COST if _compiles(pattern, _SMALL) else LARGE_PATTERN_COST


def is_broken(pattern: str) -> bool:
    """Whether no dialect can read it: an unmatched bracket or a final backslash."""
    depth, position, in_class = 0, 0, False
    while position < len(pattern):
        character = pattern[position]
        if character == "\\":
            position += 1
            if position == len(pattern):
                return True
        elif in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
        elif character in "()":
            depth += 1 if character == "(" else -1
            if depth < 0:
                return True
        position += 1
    return in_class or depth > 0


def _compiles(pattern: str, options: RegexOptions) -> bool:
    try:
        Draft202012Validator({"pattern": pattern}, pattern_options=options)
    except ValidationError:
        return False
    return True
