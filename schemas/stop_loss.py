"""The limits at which a batch stops itself, and its phases.

canary ──▶ held ──proceed──▶ releasing ──▶ watched        held is skipped if the projection is below the cap
any of them ──▶ stopped                                   too expensive, or too many errors
"""

from dataclasses import dataclass
from enum import StrEnum

from schemas.ids import BatchId
from schemas.money import NanoUsd


class Phase(StrEnum):
    """The phase of a batch with a stop-loss."""

    CANARY = "canary"
    HELD = "held"
    RELEASING = "releasing"
    WATCHED = "watched"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True, slots=True)
class StopLoss:
    """A batch's own limits; `canary` jobs run first."""

    max_cost_nano_usd: NanoUsd | None = None
    max_error_rate: float | None = None
    canary: int | None = None

    @property
    def first_phase(self) -> Phase | None:
        """The first phase; None without limits."""
        if self.canary is not None:
            return Phase.CANARY
        return None if self.max_cost_nano_usd is None and self.max_error_rate is None else Phase.WATCHED


NO_STOP_LOSS = StopLoss()


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """Progress of a batch; `alive` jobs are outside the held part."""

    total: int
    completed: int
    failed: int
    alive: int
    held: int
    spent_nano_usd: NanoUsd

    @property
    def rested(self) -> int:
        """Jobs that completed or failed."""
        return self.completed + self.failed

    @property
    def projected_nano_usd(self) -> NanoUsd:
        """Cost of the whole batch at the mean of its finished jobs."""
        return NanoUsd(-(-self.spent_nano_usd * self.total // max(self.rested, 1)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """A batch with a stop-loss."""

    batch_id: BatchId
    terms: StopLoss
    phase: Phase
    tally: Tally
