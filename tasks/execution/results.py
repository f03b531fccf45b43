"""Holds results of one attempt and of one lease."""

from dataclasses import dataclass

from schemas.admission import Settlement
from schemas.attempt import ClosedAttempt
from schemas.decision import Decision
from schemas.outcome import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptResult:
    """Holds an attempt's outcome, row and settlement, the latter two None when nothing was sent."""

    outcome: Outcome
    closed: ClosedAttempt | None = None
    settlement: Settlement | None = None
    waited_seconds: float = 0.0
    """Time in admission."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseEnd:
    """Holds a lease's last outcome and decision; `waited_ms` sums admission and pauses."""

    outcome: Outcome
    decision: Decision
    waited_ms: int
