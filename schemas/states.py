"""The states of a job and the only arrows between them.

accept                held                        Complete
(new) ───────────▶ queued ────────────────▶ running ────────────────────▶ completed
▲  ▲                    │  │  │      DeadLetter
stage_due │  └── rescue (lease out)┘  │  └───────────────────▶ dead ──replay──▶ queued
│                           │ RetryAt · Park
waiting ◀──────────────────────┘          deadline passed anywhere ──▶ expired
any state not at rest ── cancel ──▶ cancelled
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

ARROWS: dict[str, tuple[frozenset[JobState], JobState]] = {
    "hold": (frozenset({JobState.QUEUED}), JobState.RUNNING),
    "complete": (frozenset({JobState.RUNNING}), JobState.COMPLETED),
    "bury": (frozenset({JobState.RUNNING}), JobState.DEAD),
    "wait": (frozenset({JobState.RUNNING}), JobState.WAITING),
    "rescue": (frozenset({JobState.RUNNING}), JobState.QUEUED),
    "stage_due": (frozenset({JobState.WAITING}), JobState.QUEUED),
    "replay": (frozenset({JobState.DEAD}), JobState.QUEUED),
    "cancel": (frozenset({JobState.QUEUED, JobState.RUNNING, JobState.WAITING}), JobState.CANCELLED),
    "expire": (frozenset({JobState.QUEUED, JobState.RUNNING, JobState.WAITING}), JobState.EXPIRED),
}
"""Arrow name -> (states it leaves, state it enters)."""
