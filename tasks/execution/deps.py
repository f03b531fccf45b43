"""What the pipeline asks of the world, as small protocols that it owns.

`tasks.wiring` alone knows the classes behind them. Invariant: nothing here names a table, a key or a vendor.
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
    """The durable side: every write names the fence and is grouped with those of other jobs."""

    async def hold(self, job_id: JobId, generation: int) -> LeasedJob | None:
        """Take the job by compare-and-set; None when it is taken, stale or at rest."""

    async def open(self, attempt: OpenedAttempt) -> bool:
        """Make the attempt durable before anything is sent; False when the epoch or the fence has passed."""

    async def record(self, lease: Lease, closed: ClosedAttempt | None, decision: Decision) -> bool:
        """Write outcome and decision in one transaction; False when the fence was lost (the cost is booked)."""

    async def suspended(self, job_id: JobId) -> Sequence[OpenedAttempt]:
        """The job's attempts whose end nobody knows, the latest first."""

    async def hand_back(self, lease: Lease) -> bool:
        """Give up the lease at once, because this process ends; False when it was lost."""

    def renewing(self, lease: Lease) -> AbstractAsyncContextManager[None]:
        """Renew the lease while the block runs; cancels the block when the lease is lost."""


class Gate(Protocol):
    """Admission: one decision over all limits and budgets."""

    @property
    def epoch(self) -> int:
        """The ledger epoch that this process knows."""

    async def admit(self, ask: Ask) -> Grant | Wait | Refusal:
        """Ask, and wait in place with a ticket up to the hold time. Raises RedisUnavailable."""

    async def settle(self, settlement: Settlement) -> bool:
        """Replace the reservation by the truth, exactly once per stamp."""

    async def penalize(self, target: Target, penalty: Penalty) -> None:
        """Freeze the target for all workers."""

    async def doubt_account(self, account: str, reason: str, job_id: JobId) -> bool:
        """Count a refusal of this account's key or money; the second job's stops it until an operator opens it.

        Returns whether it is stopped.
        """


class Models(Protocol):
    """The models behind their aliases, and the judgement of what they say."""

    def chain(self, model: str) -> tuple[Target, ...]:
        """Targets to try in order. Raises UnknownModel."""

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan | Refusal:
        """Final body, price and quote; a refusal where the price is unknown and a budget applies."""

    async def call(
        self, plan: Plan, attempt_id: AttemptId, *, deadline_seconds: float, on_chunk: OnChunk | None
    ) -> Reply | Trouble:
        """Make the call; trouble is a value. Raises only for bugs and cancellation."""

    async def look_up(self, target: Target, attempt_id: AttemptId) -> Reply | None:
        """The reply of an earlier call whose answer never arrived, where its account still has it.

        Raises AccountUnavailable where it cannot be asked.
        """

    def served_price(self, opened: OpenedAttempt, reply: Reply) -> Price:
        """What a million tokens of this reply cost: at the tier that served it, else as was reserved. Pure."""

    async def judge(self, reply: Reply, contract: OutputContract | None, tenant_id: TenantId) -> Judged:
        """Hold the reply against the contract."""


class Answers(Protocol):
    """Answers that were given before."""

    async def same(self, job: Job) -> Valid | None:
        """The valid answer to the same whole request of the same tenant, or None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deps:
    """All that `run_job` needs. `now` is UTC, `pause` sleeps for seconds, `jitter` is uniform in [0, 1).

    `marking` is entered for a job whose synchronous steps are to be marked (`config.marks`).
    """

    jobs: Jobs
    gate: Gate
    models: Models
    answers: Answers
    now: Callable[[], datetime]
    pause: Callable[[float], Awaitable[None]]
    jitter: Callable[[], float]
    attempt_id: Callable[[], AttemptId]
    marking: Marking = mark_no_job
