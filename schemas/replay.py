"""A replay of dead letters: selection, changes, pace and progress.

canary ──▶ judging ──▶ running ──▶ completed        the canaries are terminal; enough completed
                  └──▶ stopped ──resume──▶ running  too few completed
any active state ── cancel ──▶ cancelled
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from schemas.contract import OutputContract
from schemas.decision import DeadReason
from schemas.ids import BatchId, JobId, ReplayId, TenantId
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.money import NanoUsd

DEFAULT_THRESHOLD = 0.9
"""Share of the canaries that must complete: a change that helps nine in ten is a fix."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetters:
    """Selects dead letters; None does not restrict, all tenants included.

    `until_at` bounds the time of death exclusively.
    """

    tenant_id: TenantId | None = None
    ids: tuple[JobId, ...] | None = None
    reason: DeadReason | None = None
    fingerprint: str | None = None
    batch_id: BatchId | None = None
    model: str | None = None
    prompt: str | None = None
    since_at: datetime | None = None
    until_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """Changes to each selected job; None leaves a field.

    `body` is replaced first, then `parameters` are merged into it and `message` is appended.
    """

    deadline_seconds: float
    body: JsonObject | None = None
    model: str | None = None
    lane: Lane | None = None
    parameters: JsonObject = field(default_factory=dict)
    contract: OutputContract | None = None
    message: JsonObject | None = None
    max_cost_nano_usd: NanoUsd | None = None

    @property
    def changes_bodies(self) -> bool:
        """Whether bodies must be rewritten."""
        return bool(self.body or self.model or self.parameters or self.contract or self.message)


class ReplayState(StrEnum):
    """The state of a replay."""

    CANARY = "canary"
    JUDGING = "judging"
    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    CANCELLED = "cancelled"

    @property
    def under_way(self) -> bool:
        """Whether upkeep still works on it."""
        return self in {ReplayState.CANARY, ReplayState.JUDGING, ReplayState.RUNNING}


@dataclass(frozen=True, kw_only=True, slots=True)
class NewReplay:
    """A submitted replay; `canary` 0 is none, `per_second` None is no rate."""

    id: ReplayId
    tenant_id: TenantId | None
    which: DeadLetters
    patch: Patch
    canary: int = 0
    threshold: float = DEFAULT_THRESHOLD
    per_second: float | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay(NewReplay):
    """A stored replay; `version` grows with each round and fences it."""

    state: ReplayState
    detail: str | None
    version: int
    total: int
    replayed: int
    refused: int
    cursor_at: datetime | None
    allowed: int
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayedLetter:
    """A dead letter in a round, before and after its patch.

    None leaves a field of the job. Before, `body` is None if the patch leaves bodies alone.
    """

    id: JobId
    tenant_id: TenantId
    generation: int
    rested_at: datetime
    body: JsonObject | None = None
    model: str | None = None
    contract: OutputContract | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A dead letter that the patch does not fit; it stays dead."""

    letter: ReplayedLetter
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayOutcomes:
    """Jobs per state, and a few refusals."""

    states: dict[str, int]
    canaries: dict[str, int]
    refusals: Sequence[tuple[JobId, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Jobs that a replay would move, and their worst-case cost.

    Of the `jobs`, `priced` were priced; the others count as their mean. `unpriced` have no known price and count as
    zero.
    """

    jobs: int
    priced: int
    unpriced: int
    refused: int
    one_call_nano_usd: NanoUsd
    worst_case_nano_usd: NanoUsd
