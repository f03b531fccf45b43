"""Counts the work of checking a reply before it is done, to bound it on the event loop.

A step is about 5 nanoseconds, measured on a slow shared core at the worst input found for each kind of work.
"""

from dataclasses import dataclass

INLINE_STEPS = 4_000_000
"""Most steps of one reply on the event loop: 20 ms. `providers.contract.checks.checks` does what needs more."""

PARSE_STEPS_PER_CHARACTER = 10
PAIR_STEPS = 4
"""One part of a schema against one value, scalar or container."""

ERROR_VALUE_STEPS, ERROR_CHARACTER_STEPS = 20, 0.4
"""Copying a value into an error: per value and per character in it."""

REPAIR_STEPS_PER_CHARACTER = 1_000
"""`json_repair` is written in Python: 5 microseconds a character."""


class TooMuchWork(Exception):  # noqa: N818 - says what it is
    """The work exceeds what may be done on the event loop."""


@dataclass(slots=True)
class Work:
    """Steps that are left; None is no limit, for a process that can be killed."""

    steps: float | None = INLINE_STEPS

    def spend(self, steps: float) -> None:
        """Take steps before they are done. Raises TooMuchWork if fewer are left."""
        if self.steps is not None:
            if steps > self.steps:
                raise TooMuchWork
            self.steps -= steps


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a JSON text: its characters, and the most values and brackets in it."""

    characters: int
    values: int
    openings: int


def size_of(text: str) -> Size:
    """Bound the size of a text: each value but the first follows a comma or opening bracket."""
    openings = text.count("[") + text.count("{")
    return Size(len(text), 1 + text.count(",") + openings, openings)
