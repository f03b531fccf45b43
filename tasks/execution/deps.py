"""Defines the protocols of the pipeline to storage, admission and models.

Invariant: nothing here names a table, a key or a vendor.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from config.marks import Marking, mark_no_job
from schemas.admission import Ask, Grant, Penalty, Refusal, Settlement, Wait
from schemas.attempt import ClosedAttempt, OpenedAttempt
from schemas.contract import OutputContract
from schemas.decision import Decision
from schemas.ids import AttemptId, JobId, TenantId
from schemas.job import Job, Lease, LeasedJob, Target
from schemas.jsons import JsonObject
from schemas.money import Price
from schemas.outcome import Judged, Valid
from schemas.plan import Plan
from schemas.reply import Reply, Trouble

OnChunk: TypeAlias = Callable[[JsonObject], Awaitable[None]]


class Jobs(Protocol):
    """Stores jobs and attempts. Every write names the fence."""

    async def hold(self, job_id: JobId, generation: int) -> LeasedJob | None:
        """Claim the job; None when taken, stale or terminal."""

    async def open(self, attempt: OpenedAttempt) -> bool:
        """Store the attempt; False when epoch or fence is stale."""

    async def record(self, lease: Lease, closed: ClosedAttempt | None, decision: Decision) -> bool:
        """Write outcome and decision; False if the fence was lost (cost is booked)."""

    async def suspended(self, job_id: JobId) -> Sequence[OpenedAttempt]:
        """Read the job's unresolved charges, latest first."""

    async def hand_back(self, lease: Lease) -> bool:
        """Release the lease; False when it was lost."""

    def renewing(self, lease: Lease) -> AbstractAsyncContextManager[None]:
        """Renew the lease during the block; cancel the block when it is lost."""


class Gate(Protocol):
    """Decides over all limits and budgets whether a call may start."""

    @property
    def epoch(self) -> int:
        """Return the ledger epoch that this process knows."""

    async def admit(self, ask: Ask) -> Grant | Wait | Refusal:
        """Ask for admission; waits in place up to `hold_seconds`. Refuses without Redis."""

    async def settle(self, settlement: Settlement) -> bool:
        """Replace the reservation by usage and cost, once per stamp; False also without Redis."""

    async def penalize(self, target: Target, penalty: Penalty) -> None:
        """Freeze the target for all workers."""

    async def doubt_account(self, account: str, reason: str, job_id: JobId) -> bool:
        """Count a rejection of the account's key or credit; returns whether the account is stopped.

        A second job's rejection stops it until an operator reopens it.
        """


class Planner(Protocol):
    """Resolves model aliases and plans calls."""

    def chain(self, model: str) -> tuple[Target, ...]:
        """Return targets in order. Raises UnknownModel."""

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan | Refusal:
        """Return body, price and quote; a refusal for a budget without a price."""


class Keepers(Protocol):
    """Looks up completions at their accounts."""

    async def look_up(self, target: Target, attempt_id: AttemptId) -> Reply | None:
        """Return the provider's stored reply, if any. Raises AccountUnavailable."""

    def served_price(self, opened: OpenedAttempt, reply: Reply) -> Price:
        """Return the price of the tier that served the reply, else the reserved one. Pure."""


class Models(Keepers, Protocol):
    """Calls models and checks replies."""

    async def call(
        self, plan: Plan, attempt_id: AttemptId, *, deadline_seconds: float, on_chunk: OnChunk | None
    ) -> Reply | Trouble:
        """Make the call. Trouble is returned; only bugs and cancellation raise."""

    async def judge(self, reply: Reply, contract: OutputContract | None, tenant_id: TenantId) -> Judged:
        """Check the reply against the contract."""


class Answers(Protocol):
    """Finds earlier answers."""

    async def same(self, job: Job) -> Valid | None:
        """Find a valid answer to the same request of the same tenant."""


class Observer(Protocol):
    """Receives what the pipeline did, for metrics. It must not raise."""

    def admitted(self, ask: Ask, answer: Grant | Wait | Refusal, seconds: float) -> None:
        """Observe an admission."""

    def called(self, target: Target, answer: Reply | Trouble, seconds: float) -> None:
        """Observe a call."""

    def recorded(self, closed: ClosedAttempt | None, decision: Decision, *, kept: bool) -> None:
        """Observe a decision; without `kept`, the fence was lost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deps:
    """Holds the dependencies of `run_job`.

    `now` is UTC, `clock` monotonic seconds, `pause` sleeps for seconds, `jitter` is uniform in [0, 1). `marking` is
    entered for a job with synchronous steps to mark (`config.marks`).
    """

    jobs: Jobs
    gate: Gate
    planner: Planner
    models: Models
    answers: Answers
    observer: Observer
    now: Callable[[], datetime]
    clock: Callable[[], float]
    pause: Callable[[float], Awaitable[None]]
    jitter: Callable[[], float]
    attempt_id: Callable[[], AttemptId]
    marking: Marking = mark_no_job
