"""Records metrics of admissions, calls and decisions around the pipeline's deps.

The pipeline itself has no metrics code.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime

from config.metrics import Metrics
from schemas.admission import Ask, Grant, Penalty, Refusal, Settlement, Wait
from schemas.attempt import AttemptState, ClosedAttempt, OpenedAttempt
from schemas.contract import OutputContract
from schemas.decision import Decision
from schemas.ids import AttemptId, JobId, TenantId
from schemas.job import Job, Lease, LeasedJob, Target
from schemas.jsons import JsonObject
from schemas.money import Price
from schemas.outcome import Judged
from schemas.plan import Plan
from schemas.reply import Reply, Trouble
from tasks.execution.deps import Deps, Gate, Jobs, Models, OnChunk

NOT_CALLED = "not_called"
"""The outcome label when nothing was sent: the gate made the job wait or refused it."""


def observed(deps: Deps, metrics: Metrics, clock: Callable[[], float]) -> Deps:
    """Wrap the deps so that they record into `metrics`; `clock` gives seconds."""
    return replace(
        deps,
        jobs=_Jobs(deps.jobs, metrics),
        gate=_Gate(deps.gate, metrics, clock),
        models=_Models(deps.models, metrics, clock),
    )


class _Jobs:
    def __init__(self, jobs: Jobs, metrics: Metrics) -> None:
        self._jobs = jobs
        self._metrics = metrics

    async def hold(self, job_id: JobId, generation: int) -> LeasedJob | None:
        return await self._jobs.hold(job_id, generation)

    async def open(self, attempt: OpenedAttempt) -> bool:
        return await self._jobs.open(attempt)

    async def record(self, lease: Lease, closed: ClosedAttempt | None, decision: Decision) -> bool:
        kept = await self._jobs.record(lease, closed, decision)
        outcome = closed.outcome if closed else NOT_CALLED
        self._metrics.decisions.labels(outcome, type(decision).__name__ if kept else "FenceLost").inc()
        if closed is not None and closed.state is AttemptState.POSTED:
            self._metrics.cost_nano_usd.inc(closed.cost_nano_usd)
        return kept

    async def suspended(self, job_id: JobId) -> Sequence[OpenedAttempt]:
        return await self._jobs.suspended(job_id)

    async def hand_back(self, lease: Lease) -> bool:
        return await self._jobs.hand_back(lease)

    def renewing(self, lease: Lease) -> AbstractAsyncContextManager[None]:
        return self._jobs.renewing(lease)


class _Gate:
    def __init__(self, gate: Gate, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._gate = gate
        self._metrics = metrics
        self._clock = clock

    @property
    def epoch(self) -> int:
        return self._gate.epoch

    async def admit(self, ask: Ask) -> Grant | Wait | Refusal:
        began = self._clock()
        answer = await self._gate.admit(ask)
        if isinstance(answer, Grant):
            self._metrics.admission_wait_seconds.labels(ask.lane.value).observe(self._clock() - began)
        return answer

    async def settle(self, settlement: Settlement) -> bool:
        return await self._gate.settle(settlement)

    async def penalize(self, target: Target, penalty: Penalty) -> None:
        await self._gate.penalize(target, penalty)

    async def doubt_account(self, account: str, reason: str, job_id: JobId) -> bool:
        return await self._gate.doubt_account(account, reason, job_id)


class _Models:
    def __init__(self, models: Models, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._models = models
        self._metrics = metrics
        self._clock = clock

    def chain(self, model: str) -> tuple[Target, ...]:
        return self._models.chain(model)

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan | Refusal:
        return self._models.plan(job, target, body, now)

    async def call(
        self, plan: Plan, attempt_id: AttemptId, *, deadline_seconds: float, on_chunk: OnChunk | None
    ) -> Reply | Trouble:
        began, target = self._clock(), str(plan.target)
        answer = await self._models.call(plan, attempt_id, deadline_seconds=deadline_seconds, on_chunk=on_chunk)
        self._metrics.call_seconds.labels(target).observe(self._clock() - began)
        self._metrics.attempts.labels(target, "reply" if isinstance(answer, Reply) else answer.kind.value).inc()
        if answer.usage is not None:
            self._metrics.tokens.labels(target, "input").inc(answer.usage.input_tokens)
            self._metrics.tokens.labels(target, "output").inc(answer.usage.output_tokens)
        return answer

    async def look_up(self, target: Target, attempt_id: AttemptId) -> Reply | None:
        return await self._models.look_up(target, attempt_id)

    def served_price(self, opened: OpenedAttempt, reply: Reply) -> Price:
        return self._models.served_price(opened, reply)

    async def judge(self, reply: Reply, contract: OutputContract | None, tenant_id: TenantId) -> Judged:
        return await self._models.judge(reply, contract, tenant_id)
