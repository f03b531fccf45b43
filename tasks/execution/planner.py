"""Plans calls with their budget counters and tenant shares.

Invariant: a job that a budget counts never runs at an unknown price.
"""

from dataclasses import replace
from datetime import datetime
from typing import Protocol

from schemas.admission import Refusal, RefusalReason
from schemas.errors import InvalidSetting, UnknownModel
from schemas.job import Job, Target
from schemas.jsons import JsonObject
from schemas.plan import Plan
from tasks.configuration.effective import Configuration

NO_ACCOUNT = ""
"""Account of an unconfigured target; no provider section can have this name."""


class PricedModels(Protocol):
    """Plans calls without budgets."""

    def chain(self, model: str) -> tuple[Target, ...]:
        """Return targets in order. Raises UnknownModel."""

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan:
        """Return body, price and quote."""


class BudgetedPlanner:
    """Plans calls under the budgets in force."""

    def __init__(self, models: PricedModels, configuration: Configuration) -> None:
        self._models = models
        self._configuration = configuration

    def chain(self, model: str) -> tuple[Target, ...]:
        """Return targets in order; for an unconfigured model, one without an account."""
        try:
            return self._models.chain(model)
        except UnknownModel:
            return (Target(account=NO_ACCOUNT, model=model),)

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan | Refusal:
        """Return the plan with its budget counters, or a refusal."""
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
