"""A job, its lease, and the target of its call."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from schemas.contract import OutputContract
from schemas.ids import BatchId, JobId, TenantId
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.money import ZERO, NanoUsd
from schemas.states import JobState

CHAT_COMPLETIONS = "/v1/chat/completions"
DEFAULT_MAX_TRIES = 5
DEFAULT_MAX_REPROMPTS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One model at one provider account, with one bucket."""

    account: str
    model: str

    def __str__(self) -> str:
        return f"{self.account}/{self.model}"


@dataclass(frozen=True, kw_only=True, slots=True)
class NewJob:
    """A validated job that is not yet stored.

    `idempotency_key` is unique per tenant; `request_digest` (hex sha256 of the canonical request) detects another
    request under the same key.
    """

    id: JobId
    tenant_id: TenantId
    lane: Lane
    model: str
    body: JsonObject
    request_digest: str
    expires_at: datetime
    endpoint: str = CHAT_COMPLETIONS
    contract: OutputContract | None = None
    idempotency_key: str | None = None
    batch_id: BatchId | None = None
    custom_id: str | None = None
    user: str | None = None
    prompt: str | None = None
    max_tries: int = DEFAULT_MAX_TRIES
    max_reprompts: int = DEFAULT_MAX_REPROMPTS
    max_cost_nano_usd: NanoUsd | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Job(NewJob):
    """A stored job as its worker sees it.

    `generation` grows with each wake-up, `fence` with each lease. `waiting_since` is when it first asked for the limit
    `wait_reason`. `in_suspense`: the charge of an earlier call is unresolved.
    """

    state: JobState
    generation: int
    fence: int
    tries: int
    created_at: datetime
    spent_nano_usd: NanoUsd = ZERO
    waiting_since: datetime | None = None
    wait_reason: str | None = None
    in_suspense: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The right to write one job until a time; every write names the fence."""

    job_id: JobId
    fence: int
    holder: str
    until_at: datetime


class Published(NamedTuple):
    """A job as named in a message."""

    job_id: JobId
    generation: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LeasedJob:
    """A job with its lease."""

    job: Job
    lease: Lease
