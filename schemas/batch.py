"""What the lines of a batch share, and what its result files say about its jobs."""

from dataclasses import dataclass

from schemas.ids import BatchId, JobId, TenantId
from schemas.lanes import Lane
from schemas.states import JobState
from schemas.tenants import EVERY_LANE


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchTerms:
    """The terms that all lines of a batch share. `lanes` are those that they may name."""

    id: BatchId
    tenant_id: TenantId
    endpoint: str
    lane: Lane
    window_seconds: float
    lanes: frozenset[Lane] = EVERY_LANE


@dataclass(frozen=True, kw_only=True, slots=True)
class RestedJob:
    """A terminal job's part of its batch's files. `reply` is JSON text, copied without parsing."""

    job_id: JobId
    custom_id: str
    state: JobState
    reply: str | None
    dead_reason: str | None = None
    message: str | None = None
