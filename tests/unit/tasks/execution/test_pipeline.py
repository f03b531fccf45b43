"""The one function, over fakes: what is written, settled and sent, in which order and how often."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from inspect import iscoroutinefunction
from itertools import count
from pathlib import Path

import pytest

from config.marks import FOLDER, marks_of
from schemas.admission import LimitFigures, Penalty, Refusal, RefusalReason, SettleKind, Wait, WaitReason
from schemas.attempt import AttemptState, ClosedAttempt, OpenedAttempt
from schemas.decision import AskAgain, Complete, DeadLetter, DeadReason, Decision, Park, RetryAt, WaitInPlace
from schemas.ids import AttemptId, JobId
from schemas.job import Job, Lease, Target
from schemas.jsons import JsonObject
from schemas.money import Price
from schemas.plan import Plan
from schemas.reply import Reply, Trouble, TroubleKind
from tasks.execution.asks import SHORTEST_FREEZE_MS
from tasks.execution.deps import OnChunk
from tasks.execution.pipeline import live, run_job
from tests.support.fakes import NOW, TARGET, FakeGate, FakeJobs, FakeModels, a_job, a_reply, deps_of

JOB = JobId("job_1")


async def run(
    models: FakeModels, gate: FakeGate | None = None, jobs: FakeJobs | None = None
) -> tuple[FakeJobs, FakeGate]:
    jobs, gate = jobs or FakeJobs(a_job()), gate or FakeGate()
    await run_job(JOB, 0, deps_of(jobs, gate, models))
    return jobs, gate


def trouble(kind: TroubleKind) -> Trouble:
    return Trouble(kind=kind, message="why")


async def test_a_job_that_is_held_elsewhere_is_left_alone() -> None:
    jobs, _ = await run(FakeModels([]), jobs=FakeJobs(a_job(), taken=True))

    assert jobs.records == []


async def test_a_stale_generation_is_left_alone() -> None:
    jobs, _ = await run(FakeModels([]), jobs=FakeJobs(a_job(generation=3)))

    assert jobs.records == []


async def test_a_good_reply_is_recorded_once_and_settled_at_its_cost() -> None:
    jobs, gate = await run(FakeModels([a_reply()]))

    [(closed, decision)] = jobs.records
    assert isinstance(decision, Complete)
    assert closed is not None
    assert closed.cost_nano_usd == 10 + 10
    assert [(s.kind, s.actual_nano_usd, s.actual_tokens) for s in gate.settled] == [(SettleKind.POST, 20, 15)]


class HalfPrice(FakeModels):
    """Serves at a tier that costs half of what was reserved."""

    def served_price(self, opened: OpenedAttempt, reply: Reply) -> Price:
        return replace(opened.price, input_nano_usd=500_000, output_nano_usd=1_000_000)


async def test_a_reply_costs_what_the_tier_costs_that_served_it() -> None:
    jobs, gate = await run(HalfPrice([replace(a_reply(), service_tier="flex")]))

    [(closed, _)] = jobs.records
    assert closed is not None
    assert closed.price is not None
    assert (closed.tier, closed.price.input_nano_usd, closed.cost_nano_usd) == ("flex", 500_000, 5 + 5)
    [settlement] = gate.settled
    assert settlement.actual_nano_usd == 10 < settlement.grant.cost_nano_usd


async def test_a_reply_that_is_the_result_is_not_kept_twice() -> None:
    jobs, _ = await run(FakeModels([a_reply("bad"), a_reply()]))

    assert [closed.reply for closed, _ in jobs.records if closed] == [{"t": "bad"}, None]


async def test_an_invalid_reply_is_paid_for_and_asked_again_with_the_complaint() -> None:
    models = FakeModels([a_reply("bad 1"), a_reply("bad 2"), a_reply()])

    jobs, gate = await run(models)

    assert [type(decision) for _, decision in jobs.records] == [AskAgain, AskAgain, Complete]
    assert len(gate.settled) == len(jobs.opens) == 3
    assert [len(body["messages"]) for body in models.bodies] == [1, 3, 3]


async def test_a_job_that_stays_invalid_is_a_dead_letter() -> None:
    jobs, _ = await run(FakeModels([a_reply("bad")] * 3))

    assert isinstance(jobs.records[-1][1], DeadLetter)


async def test_waiting_for_admission_costs_no_try() -> None:
    gate = FakeGate(answers=[Wait(retry_after_ms=60_000, reason=WaitReason.TOKENS)])

    jobs, _ = await run(FakeModels([]), gate)

    [(closed, decision)] = jobs.records
    assert closed is None
    assert isinstance(decision, Park)
    assert gate.settled == []


async def test_a_grant_of_a_past_epoch_is_released_and_nothing_is_sent() -> None:
    jobs, gate = await run(FakeModels([]), jobs=FakeJobs(a_job(), epoch_passed=True))

    assert [s.kind for s in gate.settled] == [SettleKind.RELEASE]
    assert isinstance(jobs.records[0][1], Park)


async def test_an_unknown_outcome_goes_to_suspense_at_its_reservation() -> None:
    jobs, gate = await run(FakeModels([trouble(TroubleKind.AMBIGUOUS)]))

    closed, decision = jobs.records[0]
    assert isinstance(decision, RetryAt)
    assert closed is not None
    assert (closed.state, closed.cost_nano_usd) == (AttemptState.SUSPENSE, 300)
    assert gate.settled[0].kind is SettleKind.SUSPEND


async def test_a_call_that_was_never_sent_gives_everything_back() -> None:
    _, gate = await run(FakeModels([trouble(TroubleKind.NOT_SENT)]))

    [settlement] = gate.settled
    assert (settlement.kind, settlement.refund_permits) == (SettleKind.RELEASE, True)


async def test_a_throttle_freezes_the_target_and_goes_through_admission_again() -> None:
    jobs, gate = await run(FakeModels([trouble(TroubleKind.THROTTLE), a_reply()]))

    assert gate.penalties == [(TARGET, Penalty(wait_ms=SHORTEST_FREEZE_MS))]
    assert [s.refund_permits for s in gate.settled] == [False, True]
    assert isinstance(jobs.records[-1][1], Complete)


@pytest.mark.parametrize("kind", [TroubleKind.MONEY, TroubleKind.AUTH])
async def test_a_refused_account_is_doubted_by_the_job_that_met_it_which_waits(kind: TroubleKind) -> None:
    jobs, gate = await run(FakeModels([trouble(kind)]))

    assert gate.doubts == [("fake", JOB)]
    assert isinstance(jobs.records[0][1], Park)
    [settlement] = gate.settled
    assert settlement.kind is SettleKind.RELEASE


@pytest.mark.parametrize("kind", [TroubleKind.FORBIDDEN, TroubleKind.MODEL_FORBIDDEN])
async def test_a_refused_request_is_dead_and_doubts_no_account(kind: TroubleKind) -> None:
    jobs, gate = await run(FakeModels([trouble(kind)]))

    assert gate.doubts == []
    assert isinstance(jobs.records[0][1], DeadLetter)
    [settlement] = gate.settled
    assert settlement.kind is SettleKind.RELEASE


async def test_a_retired_model_falls_back_to_the_next_of_the_chain() -> None:
    other = Target(account="fake", model="n")
    models = FakeModels([trouble(TroubleKind.MODEL_NOT_FOUND), a_reply()], targets=(TARGET, other))

    jobs, _ = await run(models)

    assert [opened.target for opened in jobs.opens] == [TARGET, other]


async def test_a_worker_that_lost_its_fence_settles_and_stops() -> None:
    answers: list[Reply | Trouble] = [a_reply("bad"), a_reply()]
    models = FakeModels(answers)

    _, gate = await run(models, jobs=FakeJobs(a_job(), fence_lost=True))

    assert len(gate.settled) == 1
    assert len(models.bodies) == 1


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


async def test_a_caller_waiting_for_its_tenants_share_draws_only_that_ticket() -> None:
    jobs, gate = FakeJobs(a_job()), FakeGate(answers=[Wait(retry_after_ms=9_000, reason=WaitReason.TENANT_REQUESTS)])
    held = await jobs.hold(JOB, 0)
    assert held is not None

    await live(held, deps_of(jobs, gate, FakeModels([a_reply()])), patience_seconds=30)

    assert [(ask.has_ticket, ask.has_share_ticket) for ask in gate.asks] == [(False, False), (False, True)]


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


async def test_a_ramp_is_told_apart_from_a_throttle_and_figures_are_handed_on() -> None:
    figures = LimitFigures(limit=60, used=60, requested=1, wait_ms=900)
    throttle = replace(trouble(TroubleKind.THROTTLE), limit=WaitReason.REQUESTS, figures=figures, retry_after_ms=900)

    _, gate = await run(FakeModels([trouble(TroubleKind.RAMP), throttle, a_reply()]))

    assert [penalty for _, penalty in gate.penalties] == [
        Penalty(wait_ms=SHORTEST_FREEZE_MS, ramp=True),
        Penalty(wait_ms=900, limit=WaitReason.REQUESTS, figures=figures),
    ]


class Faulty(FakeModels):
    """Has a bug in one of its methods."""

    def __init__(self, bug_in: str, answers: list[Reply | Trouble]) -> None:
        super().__init__(answers)

        def bug(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        async def bug_later(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        setattr(self, bug_in, bug_later if iscoroutinefunction(getattr(self, bug_in)) else bug)


class Picky(FakeJobs):
    """Refuses to write what has content, as a store does with a value that it cannot hold."""

    async def open(self, attempt: OpenedAttempt) -> bool:
        if attempt.request == {"unstorable": True}:
            raise ValueError
        return await super().open(attempt)

    async def record(self, lease: Lease, closed: ClosedAttempt | None, decision: Decision) -> bool:
        if not isinstance(decision, DeadLetter) or (closed is not None and closed.usage is not None):
            raise ValueError
        return await super().record(lease, closed, decision)


def dead_of(decision: Decision) -> DeadReason | None:
    return decision.reason if isinstance(decision, DeadLetter) else None


async def test_what_cannot_be_recorded_ends_its_job_with_its_cost_after_one_call() -> None:
    models = FakeModels([a_reply(), a_reply()])

    jobs, gate = await run(models, jobs=Picky(a_job()))

    [(closed, decision)] = jobs.records
    assert dead_of(decision) is DeadReason.INTERNAL_ERROR
    assert closed is not None
    assert (closed.cost_nano_usd, closed.state, closed.reply, closed.error) == (20, AttemptState.POSTED, None, None)
    assert (len(models.bodies), len(gate.settled)) == (1, 1)


async def test_an_unopenable_call_is_not_made_and_its_reservation_is_released() -> None:
    models = FakeModels([a_reply()])

    jobs, gate = await run(models, jobs=Picky(a_job(body={"unstorable": True})))

    assert [dead_of(decision) for _, decision in jobs.records] == [DeadReason.INTERNAL_ERROR]
    assert (models.bodies, [one.kind for one in gate.settled]) == ([], [SettleKind.RELEASE])


async def test_a_bug_while_judging_is_a_complaint_within_the_reprompt_limit() -> None:
    models = Faulty("judge", [a_reply() for _ in range(9)])

    jobs, _ = await run(models)

    assert [closed.outcome for closed, _ in jobs.records if closed] == ["invalid"] * 3
    assert dead_of(jobs.records[-1][1]) is DeadReason.INVALID_OUTPUT


async def test_a_bug_while_booking_ends_the_job_at_its_reservation() -> None:
    jobs, gate = await run(Faulty("served_price", [a_reply()]))

    [(closed, decision)] = jobs.records
    assert closed is not None
    assert (dead_of(decision), closed.state, closed.cost_nano_usd) == (
        DeadReason.INTERNAL_ERROR,
        AttemptState.POSTED,
        300,
    )
    assert [one.kind for one in gate.settled] == [SettleKind.POST]


async def test_a_bug_while_calling_leaves_its_money_in_suspense() -> None:
    jobs, gate = await run(Faulty("call", []))

    [(closed, decision)] = jobs.records
    assert closed is not None
    assert (dead_of(decision), closed.state) == (DeadReason.INTERNAL_ERROR, AttemptState.SUSPENSE)
    assert [one.kind for one in gate.settled] == [SettleKind.SUSPEND]


async def test_a_bug_before_the_call_ends_the_job_unpaid() -> None:
    jobs, gate = await run(Faulty("plan", []))

    assert [(closed, dead_of(decision)) for closed, decision in jobs.records] == [(None, DeadReason.INTERNAL_ERROR)]
    assert gate.settled == []


async def test_as_many_lost_calls_as_a_job_has_tries_are_its_last() -> None:
    lost = (await run(FakeModels([a_reply()])))[0].opens * 2
    models = FakeModels([a_reply()])
    jobs = FakeJobs(a_job(in_suspense=True, max_tries=2), in_suspense=lost)

    await run(models, jobs=jobs)

    assert [dead_of(decision) for _, decision in jobs.records] == [DeadReason.INTERNAL_ERROR]
    assert models.bodies == []


@dataclass
class MarkedModels(FakeModels):
    """Notes what the process's file says while it plans, calls and books."""

    file: Path = Path()
    noted: list[tuple[str, bool]] = field(default_factory=list)

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan | Refusal:
        self._note("plan")
        return super().plan(job, target, body, now)

    async def call(
        self, plan: Plan, attempt_id: AttemptId, *, deadline_seconds: float, on_chunk: OnChunk | None
    ) -> Reply | Trouble:
        self._note("call")
        return await super().call(plan, attempt_id, deadline_seconds=deadline_seconds, on_chunk=on_chunk)

    def served_price(self, opened: OpenedAttempt, reply: Reply) -> Price:
        self._note("book")
        return super().served_price(opened, reply)

    def _note(self, step: str) -> None:
        raw = self.file.read_bytes()
        self.noted.append((step, raw[2 : 2 + raw[0]] == JOB.encode()))


async def test_a_job_is_marked_while_planned_and_booked_but_not_while_it_waits(tmp_path: Path) -> None:
    with marks_of(tmp_path, "w") as marking:
        models = MarkedModels([a_reply()], file=tmp_path / FOLDER / "w.mark")
        deps = replace(deps_of(FakeJobs(a_job()), FakeGate(), models), marking=marking)

        await run_job(JOB, 0, deps)

    assert models.noted == [("plan", True), ("call", False), ("book", True)]
