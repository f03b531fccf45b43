"""Light workers: the real pipeline over the real gate and the real storage, and a till in place of the models.

Each is a process that may be killed at any moment. Jobs are not dispatched: whoever makes one runs it. The keeper is
upkeep's money, with a lifetime of reservations so short that many run out within a trial.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from admission.connect import Admission, connected
from admission.local_gate import LocalGate
from schemas.attempt import OpenedAttempt
from schemas.contract import OutputContract
from schemas.errors import Unavailable
from schemas.ids import AttemptId, TenantId
from schemas.job import Job, Lease, NewJob, Target
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.money import NanoUsd, Price, Quote, Usage
from schemas.outcome import Valid
from schemas.plan import Plan
from schemas.reply import Reply, Trouble, TroubleKind
from storage.connect import Storage, opened
from storage.jobs.group_jobs import GroupedJobs
from storage.jobs.writes import JobTable
from tasks.configuration.effective import Configuration
from tasks.execution.deps import Deps, OnChunk
from tasks.execution.heartbeats import LeaseKeeper
from tasks.execution.pipeline import run_job
from tasks.execution.planner import BudgetedPlanner
from tasks.ledger.reconciliation import LedgerReconciler
from tasks.requests.new_ids import new_attempt_id, new_job_id
from tests.chaos.till import asked
from tests.support.fakes import SilentObserver

TARGET = Target(account="till", model="m")
PRICE = Price(input_nano_usd=1_000_000, cached_input_nano_usd=1_000_000, output_nano_usd=1_000_000, source="test")
"""One nano-dollar a token, so that the till's figure is both."""


FORGOTTEN_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What every process of a trial is told. `pause_seconds` is the longest between a grant and its attempt's row."""

    redis_url: str
    database_url: str
    till_port: int
    began: float
    seconds: float
    costs: tuple[int, int]
    user_seconds: float
    pause_seconds: float = 0.0
    rest_seconds: float = 0.1
    flows: int = 3
    lease_seconds: float = 2.0
    lifetime_seconds: float = 4.0
    keep_every_seconds: float = 0.05

    @property
    def user(self) -> str:
        """Who spends now: each has a budget of its own, which soon binds."""
        return f"u{int((time.monotonic() - self.began) / self.user_seconds)}"

    @property
    def is_over(self) -> bool:
        """Long after the trial: whoever conducts it kills its drivers before, unless it has died itself."""
        return time.monotonic() - self.began > self.seconds + FORGOTTEN_SECONDS


class TillModels:
    """One model without budgets, whose calls go to the till."""

    def __init__(self, terms: Terms) -> None:
        self._port = terms.till_port

    def chain(self, model: str) -> tuple[Target, ...]:
        return (replace(TARGET, model=model),)

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan:
        quote = Quote(input_tokens=0, output_tokens=body["most"], cost_nano_usd=NanoUsd(body["most"]))
        return Plan(target=target, body={**body, "user": job.user}, price=PRICE, quote=quote)

    async def call(
        self, plan: Plan, attempt_id: AttemptId, *, deadline_seconds: float, on_chunk: OnChunk | None
    ) -> Reply | Trouble:
        try:
            cost = await asked(self._port, "call", attempt_id, plan.body["user"], plan.body["most"])
        except ConnectionError:
            return Trouble(kind=TroubleKind.AMBIGUOUS, message="cut")
        return _reply(cost) if cost >= 0 else Trouble(kind=TroubleKind.BAD_REQUEST, message="refused")

    async def look_up(self, target: Target, attempt_id: AttemptId) -> Reply | None:
        cost = await asked(self._port, "look", attempt_id)
        return None if cost is None else _reply(cost)

    async def judge(self, reply: Reply, contract: OutputContract | None, tenant_id: TenantId) -> Valid:
        return Valid(reply=reply)

    def served_price(self, opened: OpenedAttempt, reply: Reply) -> Price:
        return opened.price


class HesitantJobs:
    """`tasks.execution.deps.Jobs` that lets time pass between the grant and the row, as a busy process does."""

    def __init__(self, jobs: GroupedJobs, longest_seconds: float, chance: random.Random) -> None:
        self._jobs, self._longest_seconds, self._chance = jobs, longest_seconds, chance
        self.hold, self.record, self.suspended, self.hand_back = jobs.hold, jobs.record, jobs.suspended, jobs.hand_back

    async def open(self, attempt: OpenedAttempt) -> bool:
        if self._longest_seconds:
            await asyncio.sleep(self._chance.uniform(0, self._longest_seconds))
        return await self._jobs.open(attempt)

    def renewing(self, lease: Lease) -> AbstractAsyncContextManager[None]:
        return self._jobs.renewing(lease)


def drive(terms: Terms) -> None:
    """A driver's process: job after job, in a few flows, until it is killed or the trial is over."""
    asyncio.run(_drive(terms))


def keep(terms: Terms) -> None:
    """The keeper's process: rebuild, rescue, expire, reconcile and audit, until it is killed."""
    asyncio.run(_keep(terms))


async def _drive(terms: Terms) -> None:
    chance = random.Random(os.getpid())  # noqa: S311 - spreads the load
    async with _infra(terms) as (storage, admission, configuration):
        lease_keeper = LeaseKeeper(storage.jobs.renew, every_seconds=terms.lease_seconds / 4)
        gate = LocalGate(admission.gate, jitter=chance.random)
        models = TillModels(terms)
        deps = Deps(
            jobs=HesitantJobs(GroupedJobs(storage.jobs, lease_keeper), terms.pause_seconds, chance),
            gate=gate,
            planner=BudgetedPlanner(models, configuration),
            models=models,
            answers=NoAnswers(),
            observer=SilentObserver(),
            now=lambda: datetime.now(UTC),
            clock=time.monotonic,
            pause=asyncio.sleep,
            jitter=chance.random,
            attempt_id=new_attempt_id,
        )
        renewals = asyncio.create_task(lease_keeper.run())
        await asyncio.gather(*(_flow(terms, storage.jobs, deps, chance) for _ in range(terms.flows)))
        renewals.cancel()


async def _flow(terms: Terms, table: JobTable, deps: Deps, chance: random.Random) -> None:
    while not terms.is_over:
        job = _job(terms, chance)
        await table.insert([job])
        running = asyncio.create_task(run_job(job.id, 0, deps))
        await asyncio.wait([running])  # one that has lost its lease is cancelled, and somebody else's
        if not running.cancelled():
            running.result()
        await asyncio.sleep(terms.rest_seconds * chance.uniform(0.5, 1.5))


def _job(terms: Terms, chance: random.Random) -> NewJob:
    return NewJob(
        id=new_job_id(),
        tenant_id=TenantId("default"),
        lane=Lane.NORMAL,
        model=TARGET.model,
        body={"most": chance.randint(*terms.costs)},
        request_digest="digest",
        expires_at=datetime.now(UTC) + timedelta(hours=1),
        user=terms.user,
    )


async def _keep(terms: Terms) -> None:
    async with _infra(terms) as (storage, admission, configuration):
        reconciler = LedgerReconciler(
            table=storage.ledger,
            due=storage.due,
            redis=admission.ledger,
            configuration=configuration,
            now=lambda: datetime.now(UTC),
        )

        async def rescue() -> int:
            return await reconciler.rescue(await storage.due.now())

        duties: list[tuple[float, Callable[[], Awaitable[object]]]] = [
            (terms.keep_every_seconds, reconciler.keep_open),
            (0.25, rescue),
            (0.5, admission.gate.expire),
            (0.5, reconciler.reconcile),
            (1.0, reconciler.audit),
        ]
        await asyncio.gather(*(_every(seconds, duty) for seconds, duty in duties))


async def _every(seconds: float, duty: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await duty()
        except Unavailable:
            continue
        finally:
            await asyncio.sleep(seconds)


@asynccontextmanager
async def _infra(terms: Terms) -> AsyncIterator[tuple[Storage, Admission, Configuration]]:
    holder = f"driver:{os.getpid()}:{time.monotonic_ns()}"
    async with (
        opened(
            terms.database_url,
            application="driver",
            holder=holder,
            lease_seconds=terms.lease_seconds,
            pool_size=3,
        ) as storage,
        connected(terms.redis_url, lifetime_seconds=terms.lifetime_seconds) as admission,
    ):
        configuration = Configuration(storage.config)
        await configuration.refresh()
        yield storage, admission, configuration


class NoAnswers:
    """`tasks.execution.deps.Answers` without a past."""

    async def same(self, job: Job) -> Valid | None:
        return None


def _reply(cost: int) -> Reply:
    return Reply(
        body={"id": "till"},
        text="paid",
        finish_reason="stop",
        refusal=None,
        usage=Usage(input_tokens=0, output_tokens=cost),
        model=TARGET.model,
    )
