"""Types returned to callers for submitted and terminal jobs."""

from dataclasses import dataclass

from schemas.ids import JobId
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.money import ZERO, NanoUsd
from schemas.states import JobState


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """A stored job; `repeated` if its idempotency key was used before."""

    job_id: JobId
    state: JobState
    generation: int
    lane: Lane
    repeated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class JobResult:
    """A terminal job for its caller; `reply` is the chat completion object."""

    job_id: JobId
    state: JobState
    lane: Lane
    reply: JsonObject | None = None
    dead_reason: str | None = None
    message: str | None = None
    served_by: str | None = None
    wait_ms: int = 0
    cost_nano_usd: NanoUsd = ZERO
