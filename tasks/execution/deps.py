"""Defines the protocols through which the pipeline reaches storage, admission and models.

Only `tasks.wiring` knows the classes behind them. Invariant: nothing here names a table, a key or a vendor.
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
    """Stores jobs and attempts. Every write names the fence and is grouped with other jobs' writes."""

    async def hold(self, job_id: JobId, generation: int) -> LeasedJob | None:
        """Claim the job by compare-and-set; None when it is taken, stale or terminal."""

    async def open(self, attempt: OpenedAttempt) -> bool:
        """Store the attempt before anything is sent; False when the epoch or the fence is outdated."""

    async def record(self, lease: Lease, closed: ClosedAttempt | None, decision: Decision) -> bool:
        """Write outcome and decision in one transaction; False if the fence was lost (cost is booked)."""

    async def suspended(self, job_id: JobId) -> Sequence[OpenedAttempt]:
        """The job's attempts with unresolved charges, latest first."""

    async def hand_back(self, lease: Lease) -> bool:
        """Release the lease at once, because this process is ending; False when it was lost."""

    def renewing(self, lease: Lease) -> AbstractAsyncContextManager[None]:
        """Renew the lease while the block runs; cancel the block when the lease is lost."""


class Gate(Protocol):
    """Decides over all limits and budgets at once whether a call may start."""

    @property
    def epoch(self) -> int:
        """The ledger epoch that this process knows."""

    async def admit(self, ask: Ask) -> Grant | Wait | Refusal:
        """Ask for admission; wait in place with a ticket up to `hold_seconds`. Without Redis nothing is admitted."""

    async def settle(self, settlement: Settlement) -> bool:
        """Replace the reservation by the actual usage and cost, exactly once per stamp; False also without Redis."""

    async def penalize(self, target: Target, penalty: Penalty) -> None:
        """Freeze the target for all workers."""

    async def doubt_account(self, account: str, reason: str, job_id: JobId) -> bool:
        """Count a rejection of the account's key or credit; return whether the account is stopped.

        A second job's rejection stops it until an operator reopens it.
        """


class Planner(Protocol):
    """Resolves model aliases and plans calls."""

    def chain(self, model: str) -> tuple[Target, ...]:
        """Targets to try in order. Raises UnknownModel."""

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan | Refusal:
        """Final body, price and quote; a refusal where the price is unknown and a budget applies."""


class Models(Protocol):
    """Calls models and checks their replies."""

    async def call(
        self, plan: Plan, attempt_id: AttemptId, *, deadline_seconds: float, on_chunk: OnChunk | None
    ) -> Reply | Trouble:
        """Make the call. Trouble is returned; only bugs and cancellation raise."""

    async def look_up(self, target: Target, attempt_id: AttemptId) -> Reply | None:
        """The provider's stored reply to a call that lost its answer; None where it has none.

        Raises AccountUnavailable when the account cannot be asked.
        """

    def served_price(self, opened: OpenedAttempt, reply: Reply) -> Price:
        """Price per million tokens: that of the tier that served the reply, else the reserved one. Pure."""

    async def judge(self, reply: Reply, contract: OutputContract | None, tenant_id: TenantId) -> Judged:
        """Check the reply against the contract."""


class Answers(Protocol):
    """Finds earlier answers to the same request."""

    async def same(self, job: Job) -> Valid | None:
        """The valid answer to the same whole request of the same tenant, or None."""


class Observer(Protocol):
    """Learns what the pipeline did, for metrics. It changes nothing and must not raise."""

    def admitted(self, ask: Ask, answer: Grant | Wait | Refusal, seconds: float) -> None:
        """The gate answered after so many seconds."""

    def called(self, target: Target, answer: Reply | Trouble, seconds: float) -> None:
        """A call ended after so many seconds."""

    def recorded(self, closed: ClosedAttempt | None, decision: Decision, *, kept: bool) -> None:
        """Outcome and decision were written; without `kept`, the fence was lost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deps:
    """The dependencies of `run_job`.

    `now` is UTC, `clock` gives monotonic seconds, `pause` sleeps for seconds, `jitter` is uniform in [0, 1). `marking`
    is entered for a job with synchronous steps to mark (`config.marks`).
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
