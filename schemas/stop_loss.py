"""When a batch stops itself, and where in that it is.

canary ──▶ held ──proceed──▶ releasing ──▶ watched        held is passed by where the projection is below the cap
any of them ──▶ stopped                                   too dear, or too many errors
"""

from dataclasses import dataclass
from enum import StrEnum

from schemas.money import NanoUsd


class Phase(StrEnum):
    """Where a batch with a stop-loss is."""

    CANARY = "canary"
    HELD = "held"
    RELEASING = "releasing"
    WATCHED = "watched"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True, slots=True)
class StopLoss:
    """A batch's own limits; None is none. `canary` jobs run first, and the rest waits for what they say."""

    max_cost_nano_usd: NanoUsd | None = None
    max_error_rate: float | None = None
    canary: int | None = None

    @property
    def first_phase(self) -> Phase | None:
        """Where a new batch begins; None where nothing watches it."""
        if self.canary is not None:
            return Phase.CANARY
        return None if self.max_cost_nano_usd is None and self.max_error_rate is None else Phase.WATCHED


NO_STOP_LOSS = StopLoss()


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """How a batch is doing: its jobs at rest, those still alive outside the held part, and what was spent."""

    total: int
    completed: int
    failed: int
    alive: int
    held: int
    spent_nano_usd: NanoUsd

    @property
    def rested(self) -> int:
        """Jobs that have come to an end of their own."""
        return self.completed + self.failed

    @property
    def projected_nano_usd(self) -> NanoUsd:
        """What the whole batch costs if the rest costs as those that have ended."""
        return NanoUsd(-(-self.spent_nano_usd * self.total // max(self.rested, 1)))
