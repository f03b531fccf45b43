"""Waits: for admission, which keeps a job's place, and in place, while a caller waits."""

from datetime import timedelta
from itertools import count

import pytest

from schemas.admission import Refusal, RefusalReason, Wait, WaitReason
from schemas.decision import Complete, DeadLetter, Decision, Park, WaitInPlace
from schemas.jsons import JsonObject
from schemas.reply import Reply, Trouble, TroubleKind
from tasks.execution.pipeline import live
from tests.support.fakes import NOW, FakeGate, FakeJobs, FakeModels, a_job, a_reply, deps_of
from tests.support.pipeline_runs import JOB, run, trouble


async def test_waiting_for_admission_costs_no_try() -> None:
    gate = FakeGate(answers=[Wait(retry_after_ms=60_000, reason=WaitReason.TOKENS)])

    jobs, _ = await run(FakeModels([]), gate)

    [(closed, decision)] = jobs.records
    assert closed is None
    assert isinstance(decision, Park)
    assert gate.settled == []


async def test_an_unknown_price_sends_nothing() -> None:
    jobs, gate = await run(FakeModels([], refusal=Refusal(reason=RefusalReason.BUDGET)))

    assert jobs.opens == gate.settled == []
    assert isinstance(jobs.records[0][1], Park)


async def test_a_parked_job_comes_back_with_its_ticket_and_its_age() -> None:
    parked = a_job(waiting_since=NOW - timedelta(seconds=70), wait_reason=WaitReason.REQUESTS.value)
    later = Wait(retry_after_ms=9_000, reason=WaitReason.TOKENS)

    jobs, gate = await run(FakeModels([]), FakeGate(answers=[later]), FakeJobs(parked))

    [ask] = gate.asks
    assert (ask.has_ticket, ask.has_share_ticket, ask.waited_ms) == (True, False, 70_000)
    [(_, decision)] = jobs.records
    assert isinstance(decision, Park)
    assert decision.waiting_since == parked.waiting_since


async def test_a_job_that_waited_for_its_share_has_no_priority_in_the_bucket() -> None:
    parked = a_job(waiting_since=NOW - timedelta(seconds=70), wait_reason=WaitReason.TENANT_TOKENS.value)
    later = Wait(retry_after_ms=9_000, reason=WaitReason.TOKENS)

    jobs, gate = await run(FakeModels([]), FakeGate(answers=[later]), FakeJobs(parked))

    [ask] = gate.asks
    assert (ask.has_ticket, ask.has_share_ticket, ask.waited_ms) == (False, True, 0)
    [(_, decision)] = jobs.records
    assert isinstance(decision, Park)
    assert decision.waiting_since == NOW


async def test_a_newcomer_has_no_ticket_and_ages_from_his_first_ask() -> None:
    later = Wait(retry_after_ms=9_000, reason=WaitReason.TOKENS)

    jobs, gate = await run(FakeModels([]), FakeGate(answers=[later]))

    assert (gate.asks[0].has_ticket, gate.asks[0].waited_ms) == (False, 0)
    [(_, decision)] = jobs.records
    assert isinstance(decision, Park)
    assert decision.waiting_since == NOW


@pytest.mark.parametrize(
    ("waited_for", "tickets"),
    [(None, (False, False)), (WaitReason.TOKENS, (True, False)), (WaitReason.TENANT_REQUESTS, (False, True))],
)
async def test_an_ask_in_a_turned_window_is_planned_anew_and_keeps_its_place(
    waited_for: WaitReason | None, tickets: tuple[bool, bool]
) -> None:
    turned = Refusal(reason=RefusalReason.STALE_WINDOW, waited_for=waited_for)

    jobs, gate = await run(FakeModels([a_reply()]), FakeGate(answers=[turned]))

    assert [(ask.has_ticket, ask.has_share_ticket) for ask in gate.asks] == [(False, False), tickets]
    assert isinstance(jobs.records[-1][1], Complete)


async def test_a_caller_waiting_for_its_tenants_share_draws_only_that_ticket() -> None:
    jobs, gate = FakeJobs(a_job()), FakeGate(answers=[Wait(retry_after_ms=9_000, reason=WaitReason.TENANT_REQUESTS)])
    held = await jobs.hold(JOB, 0)
    assert held is not None

    await live(held, deps_of(jobs, gate, FakeModels([a_reply()])), patience_seconds=30)

    assert [(ask.has_ticket, ask.has_share_ticket) for ask in gate.asks] == [(False, False), (False, True)]


async def test_a_caller_who_waits_gets_its_retry_within_the_lease() -> None:
    jobs, pauses = FakeJobs(a_job()), list[float]()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    models = FakeModels([trouble(TroubleKind.SERVER), trouble(TroubleKind.SERVER), a_reply()])
    held = await jobs.hold(JOB, 0)
    assert held is not None
    await live(held, deps_of(jobs, FakeGate(), models, pause=pause), patience_seconds=30)

    decisions = [decision for _, decision in jobs.records]
    assert [type(decision) for decision in decisions] == [WaitInPlace, WaitInPlace, Complete]
    assert [decision.costs_try for decision in decisions if isinstance(decision, WaitInPlace)] == [True, True]
    assert len(pauses) == 2


async def test_the_end_of_a_lease_counts_admission_and_pauses() -> None:
    jobs, ticks = FakeJobs(a_job()), count(step=2)
    later = Wait(retry_after_ms=5_000, reason=WaitReason.TOKENS)
    held = await jobs.hold(JOB, 0)
    assert held is not None

    deps = deps_of(jobs, FakeGate(answers=[later]), FakeModels([a_reply()]), clock=lambda: float(next(ticks)))
    end = await live(held, deps, patience_seconds=30)

    assert isinstance(end.decision, Complete)
    assert end.waited_ms == 2_000 + 5_000 + 2_000


async def test_a_wait_beyond_the_callers_patience_is_not_waited_for() -> None:
    jobs, gate = FakeJobs(a_job()), FakeGate(answers=[Wait(retry_after_ms=60_000, reason=WaitReason.TOKENS)])
    held = await jobs.hold(JOB, 0)
    assert held is not None

    end = await live(held, deps_of(jobs, gate, FakeModels([])), patience_seconds=30)

    assert isinstance(end.decision, Park)


async def test_a_stream_is_retried_until_its_caller_has_heard_something() -> None:
    heard: list[JsonObject] = []

    async def listen(chunk: JsonObject) -> None:
        heard.append(chunk)

    async def lived(answers: list[Reply | Trouble], chunks: int) -> Decision:
        jobs = FakeJobs(a_job())
        held = await jobs.hold(JOB, 0)
        assert held is not None
        deps = deps_of(jobs, FakeGate(), FakeModels(answers, chunks=chunks))
        return (await live(held, deps, listen, patience_seconds=30)).decision

    assert isinstance(await lived([trouble(TroubleKind.CUT), a_reply()], chunks=0), Complete)
    assert isinstance(await lived([trouble(TroubleKind.CUT), a_reply()], chunks=1), DeadLetter)
    assert len(heard) == 1
