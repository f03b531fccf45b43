"""Adds to each plan the budgets and the tenant share that it counts against.

Invariant: a job that a budget counts never runs at an unknown price.
"""

from dataclasses import replace
from datetime import datetime
from typing import Protocol

from schemas.admission import Refusal, RefusalReason
from schemas.attempt import OpenedAttempt
from schemas.contract import OutputContract
from schemas.errors import InvalidSetting, UnknownModel
from schemas.ids import AttemptId, TenantId
from schemas.job import Job, Target
from schemas.jsons import JsonObject
from schemas.money import Price
from schemas.outcome import Judged
from schemas.plan import Plan
from schemas.reply import Reply, Trouble
from tasks.configuration.effective import Configuration
from tasks.execution.deps import OnChunk

NO_ACCOUNT = ""
"""The account of an unconfigured target; no provider section can have this name."""


class UnbudgetedModels(Protocol):
    """Models with prices but without budgets."""

    def chain(self, model: str) -> tuple[Target, ...]:
        """Targets to try in order. Raises UnknownModel."""

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan:
        """Final body, price and quote."""

    async def call(
        self, plan: Plan, attempt_id: AttemptId, *, deadline_seconds: float, on_chunk: OnChunk | None
    ) -> Reply | Trouble:
        """Make the call. Trouble is returned, not raised."""

    async def look_up(self, target: Target, attempt_id: AttemptId) -> Reply | None:
        """The provider's stored reply to a call that lost its answer; None where it has none."""

    def served_price(self, opened: OpenedAttempt, reply: Reply) -> Price:
        """Price per million tokens of this reply."""

    async def judge(self, reply: Reply, contract: OutputContract | None, tenant_id: TenantId) -> Judged:
        """Check the reply against the contract."""


class BudgetedModels:
    """`tasks.execution.deps.Models` with the budgets in force."""

    def __init__(self, models: UnbudgetedModels, configuration: Configuration) -> None:
        self._models = models
        self._configuration = configuration
        self.call = models.call
        self.look_up = models.look_up
        self.served_price = models.served_price
        self.judge = models.judge

    def chain(self, model: str) -> tuple[Target, ...]:
        """Targets to try in order; for a model no longer configured, one target without an account."""
        try:
            return self._models.chain(model)
        except UnknownModel:
            return (Target(account=NO_ACCOUNT, model=model),)

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan | Refusal:
        """The plan with its budget counters, or a refusal with its reason."""
        effective = self._configuration.effective
        if effective is None:
            return Refusal(reason=RefusalReason.NOT_READY)
        if target.account == NO_ACCOUNT:
            return Refusal(reason=RefusalReason.UNKNOWN_MODEL, scope=target.model)
        try:
            counters = effective.counters(job, target, now)
        except InvalidSetting as error:
            return Refusal(reason=RefusalReason.TOO_MANY_BUDGETS, scope=error.message)
        share = effective.shares.of(job.tenant_id)
        plan = replace(
            self._models.plan(job, target, body, now), counters=counters, share=share if share.limits_calls else None
        )
        counted = plan.counters or job.max_cost_nano_usd is not None
        if counted and not plan.price.is_known:
            return Refusal(reason=RefusalReason.UNKNOWN_PRICE, scope=str(target))
        return plan
