"""What a caller is told about a submitted job, and about a finished one."""

from dataclasses import dataclass

from schemas.ids import JobId
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.money import ZERO, NanoUsd
from schemas.states import JobState


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """A job is durable. `repeated` says that the idempotency key had named it before."""

    job_id: JobId
    state: JobState
    generation: int
    lane: Lane
    repeated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class JobResult:
    """A job's end as its caller sees it. `reply` is the chat completion object where there is one."""

    job_id: JobId
    state: JobState
    lane: Lane
    reply: JsonObject | None = None
    dead_reason: str | None = None
    message: str | None = None
    served_by: str | None = None
    wait_ms: int = 0
    cost_nano_usd: NanoUsd = ZERO
