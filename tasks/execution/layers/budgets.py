"""The models as the pipeline sees them: each plan knows the budgets and the share that it counts against.

Invariant: a job that any budget counts never runs at a price that nobody knows.
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
"""The account of a target that is not configured; no provider table can have this name."""


class UnbudgetedModels(Protocol):
    """Models that know prices and no budgets."""

    def chain(self, model: str) -> tuple[Target, ...]:
        """Targets to try in order. Raises UnknownModel."""

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan:
        """Final body, price and quote."""

    async def call(
        self, plan: Plan, attempt_id: AttemptId, *, deadline_seconds: float, on_chunk: OnChunk | None
    ) -> Reply | Trouble:
        """Make the call; trouble is a value."""

    async def look_up(self, target: Target, attempt_id: AttemptId) -> Reply | None:
        """The reply of an earlier call whose answer never arrived, where its account still has it."""

    def served_price(self, opened: OpenedAttempt, reply: Reply) -> Price:
        """What a million tokens of this reply cost."""

    async def judge(self, reply: Reply, contract: OutputContract | None, tenant_id: TenantId) -> Judged:
        """Hold the reply against the contract."""


class BudgetedModels:
    """`tasks.execution.deps.Models`, under the budgets in force."""

    def __init__(self, models: UnbudgetedModels, configuration: Configuration) -> None:
        self._models = models
        self._configuration = configuration
        self.call = models.call
        self.look_up = models.look_up
        self.served_price = models.served_price
        self.judge = models.judge

    def chain(self, model: str) -> tuple[Target, ...]:
        """Targets to try in order; a model that was taken out of the configuration leads to a target of nobody."""
        try:
            return self._models.chain(model)
        except UnknownModel:
            return (Target(account=NO_ACCOUNT, model=model),)

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan | Refusal:
        """The plan with its counters, or why there is none."""
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
