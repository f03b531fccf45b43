"""Types for the lines of a batch and for its result files."""

from dataclasses import dataclass

from schemas.ids import BatchId, JobId, TenantId
from schemas.lanes import Lane
from schemas.states import JobState
from schemas.tenants import EVERY_LANE


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchTerms:
    """Terms shared by all lines of a batch; lines may name only `lanes`."""

    id: BatchId
    tenant_id: TenantId
    endpoint: str
    lane: Lane
    window_seconds: float
    lanes: frozenset[Lane] = EVERY_LANE


@dataclass(frozen=True, kw_only=True, slots=True)
class RestedJob:
    """A terminal job in its batch's files; `reply` is JSON text, copied unparsed."""

    job_id: JobId
    custom_id: str
    state: JobState
    reply: str | None
    dead_reason: str | None = None
    message: str | None = None
