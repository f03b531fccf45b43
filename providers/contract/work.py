"""Counts the work of checking a reply before it is done, so that the event loop never does more than a bounded part.

A step is about 5 nanoseconds, measured on a slow shared core at the worst input that was found for each kind of work.
"""

from dataclasses import dataclass

INLINE_STEPS = 4_000_000
"""What one reply may cost on the event loop: 20 ms. What needs more is done by `providers.contract.checks.checks`."""

PARSE_STEPS_PER_CHARACTER = 10
PAIR_STEPS = 4
"""One part of a schema against one value, scalar or container."""

ERROR_VALUE_STEPS, ERROR_CHARACTER_STEPS = 20, 0.4
"""Of a value that is copied into an error: for each value and each character in it."""

REPAIR_STEPS_PER_CHARACTER = 1_000
"""The walk of `json_repair` is Python: 5 microseconds a character."""


class TooMuchWork(Exception):  # noqa: N818 - says what it is
    """This is more than may be done on the event loop."""


@dataclass(slots=True)
class Work:
    """Steps that are left; None is no limit, for a process that can be given up."""

    steps: float | None = INLINE_STEPS

    def spend(self, steps: float) -> None:
        """Take steps before they are done. Raises TooMuchWork where so many are not left."""
        if self.steps is not None:
            if steps > self.steps:
                raise TooMuchWork
            self.steps -= steps


@dataclass(frozen=True, slots=True)
class Size:
    """How large a JSON text is: characters, and values and brackets in it at most."""

    characters: int
    values: int
    openings: int


def size_of(text: str) -> Size:
    """The size of what this text can hold: each value but the first follows a comma or an opening bracket."""
    openings = text.count("[") + text.count("{")
    return Size(len(text), 1 + text.count(",") + openings, openings)
