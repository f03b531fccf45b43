"""The states of a job and the transitions between them.

       submit            claim                 Complete
(new) ────────▶ queued ─────────▶ running ─────────────▶ completed
                 ▲  ▲                │  │  DeadLetter
     stage_due   │  └─ rescue ◀──────┤  └──────────────▶ dead ── replay ──▶ queued
                 │                   │ RetryAt · Park
              waiting ◀──────────────┘

From any other state: deadline ──▶ expired, cancel ──▶ cancelled.
"""

from enum import StrEnum


class JobState(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    DEAD = "dead"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def at_rest(self) -> bool:
        """Whether the state is terminal."""
        return self in AT_REST


AT_REST = frozenset({JobState.COMPLETED, JobState.DEAD, JobState.EXPIRED, JobState.CANCELLED})
