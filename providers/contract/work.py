"""Counts the work of checking a reply before it is done.

A step is about 5 nanoseconds, measured on a slow core at the worst input.
"""

from dataclasses import dataclass

INLINE_STEPS = 4_000_000
"""20 ms; `providers.contract.checks.checks` does what needs more."""

PARSE_STEPS_PER_CHARACTER = 10
PAIR_STEPS = 4
"""One schema part against one value."""

ERROR_VALUE_STEPS, ERROR_CHARACTER_STEPS = 20, 0.4
"""Copying a value into an error: per value and per character."""

REPAIR_STEPS_PER_CHARACTER = 1_000
"""5 microseconds a character, because `json_repair` is Python."""


class TooMuchWork(Exception):  # noqa: N818 - says what it is
    """The work exceeds the event loop's budget."""


@dataclass(slots=True)
class Work:
    """Steps left; None is no limit, for a process that can be killed."""

    steps: float | None = INLINE_STEPS

    def spend(self, steps: float) -> None:
        """Take steps before they are done. Raises TooMuchWork."""
        if self.steps is not None:
            if steps > self.steps:
                raise TooMuchWork
            self.steps -= steps


@dataclass(frozen=True, slots=True)
class Size:
    """Characters of a JSON text, and the most values and brackets in it."""

    characters: int
    values: int
    openings: int


def size_of(text: str) -> Size:
    """Bound a text: each value but the first follows a comma or bracket."""
    openings = text.count("[") + text.count("{")
    return Size(len(text), 1 + text.count(",") + openings, openings)
