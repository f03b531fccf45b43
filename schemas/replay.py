"""A replay: which dead letters go back to work, what is changed about them, how carefully, and how far it has come.

canary ──▶ judging ──▶ running ──▶ completed        the canaries rest; enough of them completed
                  └──▶ stopped ──resume──▶ running  too few did
any state under way ── cancel ──▶ cancelled
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
"""What share of the canaries must complete: a repair that helps nine in ten is one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetters:
    """Which dead letters are meant; None does not restrict. A tenant of None is the operator's.

    `fingerprint` names a cause. `since_at` and `until_at` are about the moment of death, the end excluded.
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
    """What is changed about each; None leaves it. `body` replaces the request first, then the others change it.

    `parameters` are merged into the body; `message` is appended to its messages.
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
        """Whether the body of a letter has to be read and written again."""
        return bool(self.body or self.model or self.parameters or self.contract or self.message)


class ReplayState(StrEnum):
    """Where a replay is; see the drawing above."""

    CANARY = "canary"
    JUDGING = "judging"
    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    CANCELLED = "cancelled"

    @property
    def under_way(self) -> bool:
        """Whether upkeep still moves it."""
        return self in UNDER_WAY


UNDER_WAY = frozenset({ReplayState.CANARY, ReplayState.JUDGING, ReplayState.RUNNING})


@dataclass(frozen=True, kw_only=True, slots=True)
class NewReplay:
    """A replay as it is submitted. A `canary` of 0 asks for none; `per_second` of None is as fast as it goes."""

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
    """A stored replay. `version` grows with each round and is what a round is fenced by."""

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
class DeadBody:
    """A dead letter as a round reads it; `body` is None where the patch leaves bodies alone."""

    id: JobId
    tenant_id: TenantId
    generation: int
    rested_at: datetime
    body: JsonObject | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchedJob:
    """What a letter goes back to work with; None leaves what the job has."""

    letter: DeadBody
    body: JsonObject | None = None
    model: str | None = None
    contract: OutputContract | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A letter that the patch does not fit, and why; it stays dead."""

    letter: DeadBody
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayOutcomes:
    """What became of the jobs of a replay: how many are in each state, and a few of those that it refused."""

    states: dict[str, int]
    canaries: dict[str, int]
    refusals: Sequence[tuple[JobId, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a replay would move and may cost at most. `priced` of the `jobs` were priced, the rest by their mean.

    `unpriced` of the priced ones have a model without a known price and count as nothing.
    """

    jobs: int
    priced: int
    unpriced: int
    refused: int
    one_call_nano_usd: NanoUsd
    worst_case_nano_usd: NanoUsd
