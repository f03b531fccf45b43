"""The results of one attempt and of one lease."""

from dataclasses import dataclass

from schemas.admission import Settlement
from schemas.attempt import ClosedAttempt
from schemas.decision import Decision
from schemas.outcome import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptResult:
    """One attempt's outcome, row and settlement; the latter two are None when nothing was sent."""

    outcome: Outcome
    closed: ClosedAttempt | None = None
    settlement: Settlement | None = None
    waited_seconds: float = 0.0
    """Time in admission."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseEnd:
    """The last outcome and decision of a lease; `waited_ms` were spent in admission and in pauses."""

    outcome: Outcome
    decision: Decision
    waited_ms: int
