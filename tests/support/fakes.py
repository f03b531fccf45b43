"""Fakes of the pipeline's protocols: in memory, obedient, and scripted by what the provider shall say next."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from math import inf

from schemas.admission import Ask, Grant, Penalty, Refusal, RefusalReason, SettleKind, Settlement, Wait, WaitReason
from schemas.attempt import ClosedAttempt, OpenedAttempt
from schemas.contract import OutputContract
from schemas.decision import AskAgain, Decision
from schemas.ids import AttemptId, JobId, TenantId
from schemas.job import Job, Lease, LeasedJob, Target
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.money import NanoUsd, Price, Quote, Usage
from schemas.outcome import Invalid, Judged, Valid
from schemas.plan import Plan
from schemas.reply import Reply, Trouble
from schemas.states import JobState
from tasks.execution.deps import Deps, OnChunk

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TARGET = Target(account="fake", model="m")
PRICE = Price(input_nano_usd=1_000_000, cached_input_nano_usd=500_000, output_nano_usd=2_000_000, source="test")


def a_job(**changes: object) -> Job:
    """A running job with a contract-free body; name what differs."""
    facts: dict[str, object] = {
        "id": JobId("job_1"),
        "tenant_id": TenantId("default"),
        "lane": Lane.NORMAL,
        "model": "small",
        "body": {"model": "small", "messages": [{"role": "user", "content": "hi"}]},
        "request_digest": "0",
        "expires_at": NOW + timedelta(hours=1),
        "state": JobState.RUNNING,
        "generation": 0,
        "fence": 1,
        "tries": 0,
        "created_at": NOW,
    }
    return Job(**(facts | changes))  # type: ignore[arg-type]  # names are checked by the dataclass


def a_reply(text: str = "fine", usage: Usage | None = None) -> Reply:
    """A whole reply with usage of 10 tokens in and 5 out unless said otherwise."""
    used = usage or Usage(input_tokens=10, output_tokens=5)
    return Reply(body={"t": text}, text=text, finish_reason="stop", refusal=None, usage=used, model="m")


def an_opened(request: JsonObject | None = None) -> OpenedAttempt:
    """An attempt of the running job."""
    grant = Grant(stamp="s", wait_ms=0, tokens=100, cost_nano_usd=NanoUsd(300), target=TARGET, epoch=1)
    return OpenedAttempt(
        id=AttemptId("att_lost"),
        job_id=JobId("job_1"),
        fence=1,
        target=TARGET,
        grant=grant,
        price=PRICE,
        request=request or {},
        opened_at=NOW,
    )


@dataclass
class FakeJobs:
    """Remembers what was written, in order; with `fence_lost` the fence is lost while the first call is out."""

    job: Job
    opens: list[OpenedAttempt] = field(default_factory=list)
    records: list[tuple[ClosedAttempt | None, Decision]] = field(default_factory=list)
    returned: list[Lease] = field(default_factory=list)
    in_suspense: list[OpenedAttempt] = field(default_factory=list)
    taken: bool = False
    fence_lost: bool = False
    epoch_passed: bool = False
    over: bool = False

    async def hold(self, job_id: JobId, generation: int) -> LeasedJob | None:
        if self.taken or self.over or generation != self.job.generation or job_id != self.job.id:
            return None
        self.taken = True
        return LeasedJob(job=self.job, lease=Lease(job_id=job_id, fence=1, holder="w", until_at=NOW))

    async def open(self, attempt: OpenedAttempt) -> bool:
        if self.epoch_passed or (self.fence_lost and self.opens):
            return False
        self.opens.append(attempt)
        return True

    async def record(self, lease: Lease, closed: ClosedAttempt | None, decision: Decision) -> bool:
        self.records.append((closed, decision))
        if not isinstance(decision, AskAgain):
            self.over = True
        return not self.fence_lost

    async def suspended(self, job_id: JobId) -> Sequence[OpenedAttempt]:
        return self.in_suspense

    async def hand_back(self, lease: Lease) -> bool:
        self.returned.append(lease)
        return not self.over

    def renewing(self, lease: Lease) -> AbstractAsyncContextManager[None]:
        return self._renewing()

    @asynccontextmanager
    async def _renewing(self) -> AsyncIterator[None]:
        yield


@dataclass
class FakeGate:
    """Grants everything unless `answers` says otherwise, the account was stopped, or a tenant's calls are under way."""

    answers: list[Wait | Refusal] = field(default_factory=list)
    epoch: int = 1
    settled: list[Settlement] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    penalties: list[tuple[Target, Penalty]] = field(default_factory=list)
    doubts: list[tuple[str, JobId]] = field(default_factory=list)
    _why_stopped: dict[str, str] = field(default_factory=dict)
    _live: set[str] = field(default_factory=set)
    _suspense: set[str] = field(default_factory=set)
    _of_tenants: dict[str, TenantId] = field(default_factory=dict)

    async def admit(self, ask: Ask) -> Grant | Wait | Refusal:
        self.asks.append(ask)
        if self.answers:
            return self.answers.pop(0)
        if (why := self._why_stopped.get(ask.target.account)) is not None:
            return Refusal(reason=RefusalReason.ACCOUNT_STOPPED, scope=why)
        if ask.share is not None:
            if list(self._of_tenants.values()).count(ask.share.tenant_id) >= (ask.share.calls_in_flight or inf):
                return Wait(retry_after_ms=10, reason=WaitReason.TENANT_IN_FLIGHT)
            self._of_tenants[ask.attempt_id] = ask.share.tenant_id
        self._live.add(ask.attempt_id)
        return Grant(
            stamp=ask.attempt_id,
            wait_ms=0,
            tokens=ask.tokens,
            cost_nano_usd=ask.cost_nano_usd,
            target=ask.target,
            epoch=self.epoch,
            counters=ask.counters,
        )

    async def settle(self, settlement: Settlement) -> bool:
        self.settled.append(settlement)
        stamp, suspends = settlement.grant.stamp, settlement.kind is SettleKind.SUSPEND
        known = stamp in self._live or (stamp in self._suspense and not suspends)
        self._live.discard(stamp)
        self._of_tenants.pop(stamp, None)
        if known:
            (self._suspense.add if suspends else self._suspense.discard)(stamp)
        return known

    async def penalize(self, target: Target, penalty: Penalty) -> None:
        self.penalties.append((target, penalty))

    async def doubt_account(self, account: str, reason: str, job_id: JobId) -> bool:
        self.doubts.append((account, job_id))
        if len({job for doubted, job in self.doubts if doubted == account}) > 1:
            self._why_stopped.setdefault(account, reason)
        return account in self._why_stopped


@dataclass
class FakeModels:
    """Plans, and says what it is told to say; a text that begins with `bad` breaks every contract."""

    answers: list[Reply | Trouble]
    targets: tuple[Target, ...] = (TARGET,)
    bodies: list[JsonObject] = field(default_factory=list)
    refusal: Refusal | None = None
    chunks: int = 0
    kept: dict[AttemptId, Reply] = field(default_factory=dict)

    async def look_up(self, target: Target, attempt_id: AttemptId) -> Reply | None:
        return self.kept.get(attempt_id)

    def chain(self, model: str) -> tuple[Target, ...]:
        return self.targets

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan | Refusal:
        quote = Quote(input_tokens=100, output_tokens=100, cost_nano_usd=NanoUsd(300))
        return self.refusal or Plan(target=target, body=body, price=PRICE, quote=quote)

    async def call(
        self, plan: Plan, attempt_id: AttemptId, *, deadline_seconds: float, on_chunk: OnChunk | None
    ) -> Reply | Trouble:
        self.bodies.append(plan.body)
        for number in range(self.chunks if on_chunk else 0):
            await on_chunk({"chunk": number})  # type: ignore[misc]  # the range is empty where it is None
        return self.answers.pop(0)

    def served_price(self, opened: OpenedAttempt, reply: Reply) -> Price:
        return opened.price

    async def judge(self, reply: Reply, contract: OutputContract | None, tenant_id: TenantId) -> Judged:
        if (reply.text or "").startswith("bad"):
            return Invalid(reply=reply, complaint="it is bad")
        return Valid(reply=reply)


@dataclass
class FakeAnswers:
    """Answers by job id, as if the same request had been answered before."""

    known: dict[JobId, Valid] = field(default_factory=dict)
    asked: int = 0

    async def same(self, job: Job) -> Valid | None:
        self.asked += 1
        return self.known.get(job.id)


class SilentObserver:
    """Counts nothing."""

    def admitted(self, ask: Ask, answer: Grant | Wait | Refusal, seconds: float) -> None:
        pass

    def called(self, target: Target, answer: Reply | Trouble, seconds: float) -> None:
        pass

    def recorded(self, closed: ClosedAttempt | None, decision: Decision, *, kept: bool) -> None:
        pass


@dataclass
class FakeUsage:
    """What every tenant uses, and how often somebody counted."""

    used: int = 0
    counted: int = 0

    async def open_jobs(self, tenant_id: TenantId, most: int) -> int:
        return min(most, self._count())

    async def waiting_batches(self, tenant_id: TenantId) -> int:
        return self._count()

    async def bytes_stored(self, tenant_id: TenantId) -> int:
        return self._count()

    def _count(self) -> int:
        self.counted += 1
        return self.used


async def no_pause(seconds: float) -> None:
    """Time does not pass."""


def deps_of(  # noqa: PLR0917 - each is a fake, told apart by its type
    jobs: FakeJobs,
    gate: FakeGate,
    models: FakeModels,
    now: Callable[[], datetime] = lambda: NOW,
    pause: Callable[[float], Awaitable[None]] = no_pause,
    answers: FakeAnswers | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Deps:
    """Deps over fakes, with attempt ids att_1, att_2, … and no jitter."""
    numbers = count(1)
    return Deps(
        jobs=jobs,
        gate=gate,
        planner=models,
        models=models,
        answers=answers or FakeAnswers(),
        observer=SilentObserver(),
        now=now,
        clock=clock,
        pause=pause,
        jitter=lambda: 0.0,
        attempt_id=lambda: AttemptId(f"att_{next(numbers)}"),
    )
