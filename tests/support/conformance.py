"""What the pipeline believes of its gate and its jobs, as tests that the fakes and the real things pass alike.

A subclass provides the fixture; each test is a sentence of `tasks.execution.deps`. A fake that answers otherwise than
the real thing would make the pipeline's tests lie.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count

from schemas.admission import (
    Ask,
    BudgetCounter,
    Grant,
    Penalty,
    Refusal,
    RefusalReason,
    SettleKind,
    Settlement,
    Wait,
    WaitReason,
)
from schemas.attempt import AttemptState, ClosedAttempt, OpenedAttempt
from schemas.decision import AskAgain, Complete, DeadLetter, DeadReason, Decision, Expire, Park, RetryAt
from schemas.ids import AttemptId, JobId, TenantId
from schemas.job import LeasedJob, Target
from schemas.lanes import Lane
from schemas.money import NanoUsd
from schemas.states import JobState
from schemas.tenants import TenantShare
from tasks.execution.deps import Gate, Jobs
from tests.support.fakes import NOW, PRICE, TARGET, a_reply

COUNTERS = (
    BudgetCounter(scope="global", window="2026-11@UTC", limit_nano_usd=NanoUsd(1_000)),
    BudgetCounter(scope="tenant:a", window="2026-11-24@UTC", limit_nano_usd=NanoUsd(1_000)),
)
WITHIN_SECONDS, LOOK_SECONDS = 10.0, 0.02
_numbers = count(1)


def an_ask(gate: Gate, target: Target = TARGET) -> Ask:
    return Ask(
        attempt_id=AttemptId(f"att_{next(_numbers)}"),
        target=target,
        lane=Lane.NORMAL,
        tokens=100,
        cost_nano_usd=NanoUsd(7),
        epoch=gate.epoch,
        counters=COUNTERS,
    )


async def a_grant(gate: Gate) -> Grant:
    answer = await gate.admit(an_ask(gate))
    assert isinstance(answer, Grant), answer
    return answer


class GateConformance:
    """Needs a fixture `gate` whose ledger is open and whose target has no limit."""

    async def test_a_grant_repeats_what_was_asked(self, gate: Gate) -> None:
        ask = an_ask(gate)
        answer = await gate.admit(ask)

        assert isinstance(answer, Grant)
        assert (answer.tokens, answer.cost_nano_usd) == (ask.tokens, ask.cost_nano_usd)
        assert (answer.target, answer.counters) == (ask.target, ask.counters)
        assert answer.epoch == gate.epoch > 0

    async def test_every_grant_has_a_stamp_of_its_own(self, gate: Gate) -> None:
        grants = await asyncio.gather(*(a_grant(gate) for _ in range(5)))

        assert len({grant.stamp for grant in grants}) == 5

    async def test_a_grant_is_settled_once(self, gate: Gate) -> None:
        for kind in (SettleKind.POST, SettleKind.RELEASE):
            done = Settlement(grant=await a_grant(gate), kind=kind)

            assert [await gate.settle(done), await gate.settle(done)] == [True, False]

    async def test_suspense_is_resolved_once(self, gate: Gate) -> None:
        grant = await a_grant(gate)
        suspended, posted = (
            Settlement(grant=grant, kind=SettleKind.SUSPEND),
            Settlement(grant=grant, kind=SettleKind.POST),
        )

        told = [await gate.settle(each) for each in (suspended, suspended, posted, posted)]

        assert told == [True, False, True, False]

    async def test_a_stamp_that_nobody_granted_settles_nothing(self, gate: Gate) -> None:
        grant = replace(await a_grant(gate), stamp="att_0|100|7|1|1|100|0")

        assert not await gate.settle(Settlement(grant=grant, kind=SettleKind.POST))

    async def test_a_stopped_account_is_refused_with_the_reason_and_others_are_not(self, gate: Gate) -> None:
        told = [await gate.doubt_account(TARGET.account, "invalid_api_key", JobId(name)) for name in ("a", "b")]

        assert told == [False, True]
        assert await gate.admit(an_ask(gate)) == Refusal(reason=RefusalReason.ACCOUNT_STOPPED, scope="invalid_api_key")
        assert isinstance(await gate.admit(an_ask(gate, Target(account="other", model="m"))), Grant)

    async def test_one_job_alone_stops_no_account_however_often_it_is_refused(self, gate: Gate) -> None:
        told = [await gate.doubt_account(TARGET.account, "invalid_api_key", JobId("a")) for _ in range(3)]

        assert told == [False] * 3
        assert isinstance(await gate.admit(an_ask(gate)), Grant)

    async def test_a_share_holds_its_tenant_until_a_call_of_it_ends(self, gate: Gate) -> None:
        share = TenantShare(tenant_id=TenantId("greedy"), calls_in_flight=1)
        first = await gate.admit(replace(an_ask(gate), share=share))
        assert isinstance(first, Grant)

        second = await gate.admit(replace(an_ask(gate), share=share))
        assert isinstance(second, Wait)
        assert second.reason is WaitReason.TENANT_IN_FLIGHT
        assert isinstance(await gate.admit(an_ask(gate)), Grant)

        assert await gate.settle(Settlement(grant=first, kind=SettleKind.POST))
        async with asyncio.timeout(WITHIN_SECONDS):
            while True:
                third = await gate.admit(replace(an_ask(gate), share=share, has_share_ticket=True))
                if isinstance(third, Grant):
                    break
                await asyncio.sleep(LOOK_SECONDS)

    async def test_a_short_freeze_is_waited_for(self, gate: Gate) -> None:
        await gate.penalize(TARGET, Penalty(wait_ms=20))

        assert isinstance(await gate.admit(an_ask(gate)), Grant)


@dataclass(frozen=True, kw_only=True)
class JobsCase:
    """Jobs with one queued job, and how to take its fence away or to raise the ledger's epoch behind its back."""

    jobs: Jobs
    job_id: JobId
    epoch: int
    lose_fence: Callable[[], Awaitable[None]]
    pass_epoch: Callable[[], Awaitable[None]]

    async def held(self) -> LeasedJob:
        held = await self.jobs.hold(self.job_id, 0)
        assert held is not None
        return held

    def an_attempt(self, held: LeasedJob) -> OpenedAttempt:
        attempt_id = AttemptId(f"att_{self.job_id}_{next(_numbers)}")
        grant = Grant(
            stamp=attempt_id, wait_ms=0, tokens=100, cost_nano_usd=NanoUsd(7), target=TARGET, epoch=self.epoch
        )
        return OpenedAttempt(
            id=attempt_id,
            job_id=self.job_id,
            fence=held.lease.fence,
            target=TARGET,
            grant=grant,
            price=PRICE,
            request={},
            opened_at=datetime.now(UTC),
        )


def closed(attempt: OpenedAttempt) -> ClosedAttempt:
    return ClosedAttempt(
        id=attempt.id, state=AttemptState.POSTED, outcome="valid", cost_nano_usd=NanoUsd(7), closed_at=NOW
    )


AGAIN = AskAgain(body={}, reason="reprompt")
ENDS: tuple[Decision, ...] = (
    Complete(reply=a_reply()),
    RetryAt(at=NOW + timedelta(days=365), reason="server"),
    Park(until_at=NOW + timedelta(days=365), reason="frozen"),
    DeadLetter(reason=DeadReason.TRUNCATED, message="why"),
    Expire(),
)


class JobsConformance:
    """Needs a fixture `case`, and `end`, which is each of `ENDS` in turn."""

    async def test_a_held_job_is_running_under_the_fence_of_its_lease(self, case: JobsCase) -> None:
        held = await case.held()

        assert held.job.state is JobState.RUNNING
        assert (held.job.id, held.lease.job_id) == (case.job_id, case.job_id)
        assert held.lease.fence == held.job.fence

    async def test_a_job_is_held_once_and_only_in_its_generation(self, case: JobsCase) -> None:
        assert await case.jobs.hold(case.job_id, 1) is None
        assert await case.jobs.hold(JobId("job_nobody"), 0) is None
        await case.held()
        assert await case.jobs.hold(case.job_id, 0) is None

    async def test_asking_again_keeps_the_job(self, case: JobsCase) -> None:
        held = await case.held()
        attempt = case.an_attempt(held)

        assert await case.jobs.open(attempt)
        assert await case.jobs.record(held.lease, closed(attempt), AGAIN)
        assert await case.jobs.hold(case.job_id, 0) is None
        assert await case.jobs.open(case.an_attempt(held))

    async def test_after_any_other_decision_the_same_message_finds_nothing_to_do(
        self, case: JobsCase, end: Decision
    ) -> None:
        held = await case.held()

        assert await case.jobs.record(held.lease, None, end)
        assert await case.jobs.hold(case.job_id, 0) is None

    async def test_a_lost_fence_opens_and_records_nothing(self, case: JobsCase) -> None:
        held = await case.held()
        attempt = case.an_attempt(held)
        assert await case.jobs.open(attempt)
        await case.lose_fence()

        assert not await case.jobs.open(case.an_attempt(held))
        assert not await case.jobs.record(held.lease, closed(attempt), AGAIN)

    async def test_a_passed_epoch_opens_nothing_and_keeps_the_job(self, case: JobsCase) -> None:
        held = await case.held()
        await case.pass_epoch()

        assert not await case.jobs.open(case.an_attempt(held))
        assert await case.jobs.record(held.lease, None, AGAIN)

    async def test_a_lease_beats_while_its_block_runs(self, case: JobsCase) -> None:
        held = await case.held()

        async with case.jobs.renewing(held.lease):
            assert await case.jobs.record(held.lease, None, AGAIN)
