"""What a caller learns about a submitted job and about a terminal one."""

from dataclasses import dataclass

from schemas.ids import JobId
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.money import ZERO, NanoUsd
from schemas.states import JobState


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """A durably stored job. `repeated`: its idempotency key had named it before."""

    job_id: JobId
    state: JobState
    generation: int
    lane: Lane
    repeated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class JobResult:
    """A terminal job as its caller sees it. `reply` is the chat completion object, if any."""

    job_id: JobId
    state: JobState
    lane: Lane
    reply: JsonObject | None = None
    dead_reason: str | None = None
    message: str | None = None
    served_by: str | None = None
    wait_ms: int = 0
    cost_nano_usd: NanoUsd = ZERO
