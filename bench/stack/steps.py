"""Measures the CPU of each step of a job: all jobs take one step before any takes the next.

The steps are those of `tasks.execution.pipeline.attempt` over the same ports and real stores, many in flight at once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from bench.requests import MODEL, request_body
from config.catalogue import load_catalogue
from config.metrics import Metrics
from config.settings import Settings
from schemas.admission import Ask, Grant
from schemas.attempt import OpenedAttempt
from schemas.decision import Complete
from schemas.errors import PenstockError
from schemas.ids import DEFAULT_TENANT
from schemas.job import LeasedJob, NewJob
from schemas.lanes import Lane
from schemas.outcome import Valid
from schemas.plan import Plan
from schemas.reply import Reply
from tasks.execution.asks import ask_of, opened_attempt
from tasks.execution.deps import Deps
from tasks.execution.progress import Progress
from tasks.execution.settlement import AttemptClose, close_with_reply
from tasks.requests.chat import Origin, parse_chat_request
from tasks.requests.new_ids import new_job_id
from tasks.wiring.upkeep import MaintenanceServices, open_maintenance_services
from tasks.wiring.work import WorkerServices, open_worker_services

CALL_SECONDS = 60.0

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """CPU of this process for one step of one job."""

    name: str
    cpu_ms: float


@dataclass
class Walk:
    """Runs one step for all items, a bounded number at once, and records its cost per item."""

    in_flight: int
    costs: list[StepCost]

    async def step(self, name: str, items: Sequence[Item], act: Callable[[Item], Awaitable[Result]]) -> list[Result]:
        """Return the results in the order of the items."""
        turns = asyncio.Semaphore(self.in_flight)

        async def in_turn(item: Item) -> Result:
            async with turns:
                return await act(item)

        began = time.process_time()
        results = await asyncio.gather(*map(in_turn, items))
        self.costs.append(StepCost(name=name, cpu_ms=1_000 * (time.process_time() - began) / len(items)))
        return results


async def walk(
    config: Path, urls: Mapping[str, str], env: Mapping[str, str], *, jobs: int, in_flight: int
) -> tuple[StepCost, ...]:
    """Run this many jobs through all steps. The stores must be migrated and empty."""
    settings = Settings(
        redis_url=urls["PENSTOCK_REDIS_URL"],  # type: ignore[arg-type]  # parsed by pydantic
        database_url=urls["PENSTOCK_DATABASE_URL"],  # type: ignore[arg-type]  # the same
        config=config,
    )
    catalogue = load_catalogue(config)
    async with (
        open_maintenance_services(settings, catalogue, env) as upkeep,
        open_worker_services(settings, catalogue, env, Metrics()) as services,
    ):
        await _prepare(upkeep)
        steps = Walk(in_flight=in_flight, costs=[])
        await _live(services, jobs=in_flight, steps=Walk(in_flight=in_flight, costs=[]))  # opens pools and makes plans
        await _live(services, jobs=jobs, steps=steps)
        return tuple(steps.costs)


async def _prepare(upkeep: MaintenanceServices) -> None:
    effective = await upkeep.configuration.refresh()
    await upkeep.reconciler.keep_open()
    for limits, version in effective.limits:
        await upkeep.admission.gate.configure(limits, version)


async def _live(services: WorkerServices, *, jobs: int, steps: Walk) -> None:
    deps, stored = services.deps, [_new_job(services, number) for number in range(jobs)]
    for start in range(0, len(stored), 500):
        await services.infra.storage.jobs.insert(stored[start : start + 500])
    held = await steps.step("claim and decode (grouped)", stored, lambda job: _hold(deps, job))
    asked = await steps.step("plan: body, price, worst case", held, lambda one: _plan(deps, one))
    grants = await steps.step("admit", asked, lambda pair: _admit(deps, *pair))
    opened = [
        opened_attempt(leased.job, *pair, grant, fence=leased.lease.fence, now=deps.now())
        for leased, pair, grant in zip(held, asked, grants, strict=True)
    ]
    await steps.step("open the attempt (grouped)", opened, lambda attempt: _must(deps.jobs.open(attempt)))
    called = list(zip(asked, opened, strict=True))
    replies = await steps.step("provider call", called, lambda pair: _call(deps, pair[0][0], pair[1]))
    judging = list(zip(held, opened, replies, strict=True))
    booked = await steps.step("validate 2 kB against its schema", judging, lambda each: _judge(deps, *each))
    recording = [(one, *end) for one, end in zip(held, booked, strict=True)]
    await steps.step("record (grouped)", recording, lambda each: _record(deps, *each))
    await steps.step("settle", booked, lambda pair: _must(deps.gate.settle(pair[0].settlement)))


def _new_job(services: WorkerServices, number: int) -> NewJob:
    now = datetime.now(UTC)
    origin = Origin(tenant_id=DEFAULT_TENANT, job_id=new_job_id(), default_lane=Lane.NORMAL)
    return parse_chat_request(request_body(number), origin, services.infra.vocabulary, now)


async def _must(done: Awaitable[bool]) -> None:
    if not await done:
        raise PenstockError("a step was refused by its store")


async def _hold(deps: Deps, job: NewJob) -> LeasedJob:
    held = await deps.jobs.hold(job.id, 0)
    if held is None:
        raise PenstockError("a job could not be claimed; does something else work on this database?")
    return held


async def _plan(deps: Deps, held: LeasedJob) -> tuple[Plan, Ask]:
    [target, *_] = deps.planner.chain(MODEL)
    plan = deps.planner.plan(held.job, target, held.job.body, deps.now())
    if not isinstance(plan, Plan):
        raise PenstockError(f"no plan was made: {plan.reason}")
    ask = ask_of(held.job, plan, Progress(body=held.job.body, chain=(target,)), deps)
    return plan, ask


async def _admit(deps: Deps, _: Plan, ask: Ask) -> Grant:
    grant = await deps.gate.admit(ask)
    if not isinstance(grant, Grant):
        raise PenstockError(f"nothing was granted: {grant.reason}")
    return grant


async def _call(deps: Deps, plan: Plan, opened: OpenedAttempt) -> Reply:
    reply = await deps.models.call(plan, opened.id, deadline_seconds=CALL_SECONDS, on_chunk=None)
    if not isinstance(reply, Reply):
        raise PenstockError(f"a call failed: {reply.message}")
    return reply


async def _judge(deps: Deps, held: LeasedJob, opened: OpenedAttempt, reply: Reply) -> tuple[AttemptClose, Complete]:
    judged = await deps.models.judge(reply, held.job.contract, held.job.tenant_id)
    if not isinstance(judged, Valid):
        raise PenstockError("the upstream's answer does not meet its schema")
    attempt_close = close_with_reply(opened, reply, judged, deps.now(), price=deps.models.served_price(opened, reply))
    return attempt_close, Complete(reply=reply, output=judged.output)


async def _record(deps: Deps, held: LeasedJob, attempt_close: AttemptClose, decision: Complete) -> None:
    await _must(deps.jobs.record(held.lease, attempt_close.closed, decision))
