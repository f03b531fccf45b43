"""Builds the ports of `run_job`, and the services of a Celery worker process."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from admission.local_gate import LocalGate
from config.catalogue import Catalogue
from config.marks import marks_of
from config.metrics import Metrics
from config.settings import Settings
from schemas.accepted import Submission
from schemas.ids import JobId
from schemas.job import Published
from storage.database.outage import OutageRetry
from storage.jobs.group_jobs import GroupedJobs
from tasks.execution.deps import Deps
from tasks.execution.heartbeats import LeaseKeeper
from tasks.execution.observer import MetricsObserver
from tasks.execution.pipeline import run_job
from tasks.execution.planner import BudgetedPlanner
from tasks.intake.call_places import CallPlaces
from tasks.intake.celery_messages import CallerMessage, job_from_message
from tasks.intake.result_backend import ResultBackend
from tasks.intake.submit import Intake, TenantLimits
from tasks.intake.urgent_allowances import Allowances
from tasks.maintenance.token_estimates import EXCHANGE_SECONDS, exchange
from tasks.requests.new_ids import new_attempt_id, new_job_id
from tasks.tenancy.quotas import Quotas
from tasks.wiring.infrastructure import Infrastructure, in_background, open_infrastructure, repeated


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerServices:
    """Serves the Celery tasks."""

    infra: Infrastructure
    deps: Deps
    intake: Intake

    @property
    def results(self) -> ResultBackend:
        """The results of callers."""
        return self.infra.results

    async def run(self, published: Published) -> None:
        """Run a job under one lease. Safe to call twice."""
        await run_job(published.job_id, published.generation, self.deps)

    async def submit(self, message: CallerMessage) -> Submission:
        """Accept a job. Raises InvalidRequest, QuotaReached and PostgresUnavailable."""
        job = job_from_message(
            message,
            self.infra.vocabulary,
            tenants=await self.infra.storage.keys.tenants(),
            job_id=new_job_id(),
            now=self.deps.now(),
            max_body_bytes=self.infra.settings.max_body_bytes,
            share_of=self.infra.configuration.share,
        )
        return await self.intake.submit(job)

    async def expect(self, task_id: str, job_id: JobId) -> None:
        """Deliver the job's result to this task id. Raises PostgresUnavailable."""
        await self.infra.storage.deliveries.expect(task_id, job_id)

    async def cancel(self, task_ids: Sequence[str]) -> int:
        """Cancel jobs of these task ids; returns how many. Raises PostgresUnavailable."""
        jobs = await self.infra.storage.deliveries.promised(task_ids)
        return sum([await self.intake.cancel(job_id, None) for job_id in jobs])


@asynccontextmanager
async def open_worker_services(
    settings: Settings, catalogue: Catalogue, env: Mapping[str, str], metrics: Metrics
) -> AsyncIterator[WorkerServices]:
    """Open the services. Raises InvalidSetting."""
    async with (
        open_infrastructure(settings, catalogue, process="worker") as infra,
        working(infra, catalogue, env, metrics) as deps,
    ):
        yield WorkerServices(infra=infra, deps=deps, intake=intake_of(infra, deps))


@asynccontextmanager
async def working(
    infra: Infrastructure,
    catalogue: Catalogue,
    env: Mapping[str, str],
    metrics: Metrics,
    most_seconds: float | None = None,
) -> AsyncIterator[Deps]:
    """Open the ports of `run_job`, and renew leases meanwhile. Raises InvalidSetting.

    `most_seconds` limits waits for Postgres, for synchronous callers; None sets no limit.
    """
    from providers.models import open_models  # noqa: PLC0415 - the client takes half a second to load; upkeep needs none

    settings, chance = infra.settings, random.Random()  # noqa: S311 - spreads retries; not for security
    lease_keeper = LeaseKeeper(infra.storage.jobs.renew, every_seconds=settings.heartbeat_seconds)
    metrics.held_leases.set_function(lambda: lease_keeper.leases)
    jobs = GroupedJobs(
        infra.storage.jobs,
        lease_keeper,
        retry=OutageRetry(most_seconds=most_seconds, jitter=chance.random),
        store_content=catalogue.privacy.store_content,
    )
    gate = LocalGate(
        infra.admission.gate,
        jitter=chance.random,
        hold_seconds=settings.hold_seconds,
        family_of=infra.configuration.family_of,
        now=infra.clock.now,
        slots=settings.slots,
    )
    async with (
        open_models(catalogue, settings, env) as models,
        in_background("heartbeats", lease_keeper.run()),
        in_background(
            "estimates",
            repeated(partial(exchange, models.estimates, infra.storage.estimates.exchange), EXCHANGE_SECONDS),
        ),
    ):
        with marks_of(settings.home, infra.storage.holder) as marking:
            yield Deps(
                jobs=jobs,
                gate=gate,
                planner=BudgetedPlanner(models, infra.configuration),
                models=models,
                answers=infra.storage.answers,
                observer=MetricsObserver(metrics),
                now=infra.clock.now,
                clock=time.monotonic,
                pause=asyncio.sleep,
                jitter=chance.random,
                attempt_id=new_attempt_id,
                marking=marking,
            )
        await gate.aclose()


def intake_of(infra: Infrastructure, deps: Deps) -> Intake:
    """Build the intake of this process."""
    storage = infra.storage
    limits = TenantLimits(
        quotas=Quotas(storage.usage, infra.configuration.share, clock=time.monotonic),
        allowances=Allowances(storage.urgent.unclaimed, clock=time.monotonic),
        places=CallPlaces(infra.settings.call_places),
        leave_to_dispatch=storage.urgent.leave_to_dispatch,
    )
    return Intake(
        storage.jobs, storage.reads, storage.batches, infra.publisher, deps, limits, infra.configuration.check
    )
