"""The states of a job and the transitions between them.

       submit            claim                 Complete
(new) ────────▶ queued ─────────▶ running ─────────────▶ completed
                 ▲  ▲                │  │  DeadLetter
     stage_due   │  └─ rescue ◀──────┤  └──────────────▶ dead ── replay ──▶ queued
                 │                   │ RetryAt · Park
              waiting ◀──────────────┘

Before the end: the deadline passes ──▶ expired, an operator or caller cancels ──▶ cancelled.
"""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    DEAD = "dead"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def at_rest(self) -> bool:
        """Whether nothing will happen to the job any more unless it is replayed."""
        return self in AT_REST


AT_REST = frozenset({JobState.COMPLETED, JobState.DEAD, JobState.EXPIRED, JobState.CANCELLED})
