"""What follows an exhausted budget: a cheaper model, an old answer, waiting for the window, or a dead letter."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from schemas.admission import Ask, BudgetCounter, Grant, Pace, Refusal, RefusalReason, Step, Wait
from schemas.decision import AskAgain, Complete, DeadLetter, DeadReason, Park
from schemas.job import Job, Target
from schemas.jsons import JsonObject
from schemas.money import NanoUsd, Quote
from schemas.outcome import CACHED, NotAllowed, Valid
from schemas.plan import Plan
from tasks.budgets.policy import LONGEST_PACE_SPREAD_SECONDS, PACE_SPREAD_PART, TURN_SPREAD_SECONDS, cheaper_in
from tasks.execution.pipeline import run_job
from tasks.execution.progress import Progress
from tasks.execution.retry_policy import decide
from tests.support.fakes import NOW, PRICE, FakeAnswers, FakeGate, FakeJobs, FakeModels, a_job, a_reply, deps_of

TURNS_AT = NOW + timedelta(minutes=30)
DEAR, SAME, CHEAP = (Target(account="fake", model=name) for name in ("dear", "same", "cheap"))


def spent(*steps: Step, asked: int = 300, cheaper: int = 0) -> NotAllowed:
    counter = BudgetCounter(
        scope="global", window="2026-01-01@UTC", limit_nano_usd=NanoUsd(1_000), ends_at=TURNS_AT, on_exhausted=steps
    )
    refusal = Refusal(
        reason=RefusalReason.BUDGET,
        scope="global",
        counter=counter,
        asked_nano_usd=NanoUsd(asked),
        cheaper_in=cheaper,
    )
    return NotAllowed(refusal=refusal)


def decided(outcome: NotAllowed, job: Job | None = None, jitter: float = 0.5) -> object:
    chain = (DEAR, SAME, CHEAP)
    return decide(job or a_job(), outcome, Progress(body={}, chain=chain), now=NOW, jitter=jitter)


def test_it_waits_until_the_window_turns_and_not_all_at_once() -> None:
    early, late = decided(spent(Step.PARK), jitter=0.0), decided(spent(Step.PARK), jitter=0.999)

    assert isinstance(early, Park)
    assert isinstance(late, Park)
    assert early.until_at == TURNS_AT
    assert timedelta(seconds=TURN_SPREAD_SECONDS / 2) < late.until_at - TURNS_AT <= timedelta(seconds=60)
    assert early.note is not None
    assert "global of 2026-01-01@UTC" in early.note


def test_a_window_turning_past_the_deadline_leaves_time_to_raise_a_budget() -> None:
    assert isinstance(decided(spent(Step.PARK), a_job(expires_at=NOW + timedelta(minutes=5))), Park)


def ahead(*steps: Step, days: float = 1, opens_in_ms: int = 5_000) -> NotAllowed:
    refusal = spent(*steps).refusal
    assert refusal.counter is not None
    pace = Pace(starts_at=NOW, ends_at=NOW + timedelta(days=days), ahead=0.1)
    counter = replace(refusal.counter, pace=pace)
    return NotAllowed(refusal=replace(refusal, reason=RefusalReason.PACE, counter=counter, opens_in_ms=opens_in_ms))


def test_spending_ahead_of_its_pace_waits_for_room_and_not_for_the_window() -> None:
    early, late = decided(ahead(Step.PARK), jitter=0.0), decided(ahead(Step.PARK), jitter=1.0)

    assert isinstance(early, Park)
    assert isinstance(late, Park)
    assert early.until_at == NOW + timedelta(seconds=5)
    assert late.until_at - early.until_at == timedelta(days=1) * PACE_SPREAD_PART
    assert (early.reason, early.note) == (
        "pace",
        "global of 2026-01-01@UTC ahead of its pace: parked until it has room",
    )


def test_the_pace_of_a_month_spreads_no_further_than_a_quarter_of_an_hour() -> None:
    early, late = decided(ahead(days=30), jitter=0.0), decided(ahead(days=30), jitter=1.0)

    assert isinstance(early, Park)
    assert isinstance(late, Park)
    assert (late.until_at - early.until_at).total_seconds() == LONGEST_PACE_SPREAD_SECONDS


def test_the_steps_of_a_budget_go_before_its_pace() -> None:
    rejected = decided(ahead(Step.REJECT))

    assert isinstance(rejected, DeadLetter)
    assert "ahead of its pace" in rejected.message


def test_a_pace_opening_past_the_deadline_leaves_time_to_raise_a_budget() -> None:
    job = a_job(expires_at=NOW + timedelta(minutes=5))

    assert isinstance(decided(ahead(Step.PARK, opens_in_ms=600_000), job), Park)


@pytest.mark.parametrize(
    ("steps", "cheaper", "kind"),
    [
        ((), 0, Park),
        ((Step.REJECT,), 0, DeadLetter),
        ((Step.CHEAPER, Step.REJECT), 2, AskAgain),
        ((Step.CHEAPER, Step.REJECT), 0, DeadLetter),
        ((Step.CACHED,), 0, Park),
        ((Step.CACHED, Step.CHEAPER), 1, AskAgain),
        ((Step.CHEAPER, Step.CACHED, Step.REJECT), 0, DeadLetter),
    ],
)
def test_the_first_step_that_can_be_taken_is_taken(steps: tuple[Step, ...], cheaper: int, kind: type) -> None:
    assert isinstance(decided(spent(*steps, cheaper=cheaper)), kind)


def test_a_dearer_target_is_passed_over_on_the_way_to_a_cheaper_one() -> None:
    decision = decided(spent(Step.CHEAPER, cheaper=2))
    assert isinstance(decision, AskAgain)

    progress = Progress(body={}, chain=(DEAR, SAME, CHEAP)).after(spent(Step.CHEAPER), decision)

    assert progress.target == CHEAP


def test_what_no_window_can_ever_hold_is_told_so_at_once() -> None:
    decision = decided(spent(Step.PARK, asked=1_001))

    assert isinstance(decision, DeadLetter)
    assert decision.reason is DeadReason.BUDGET
    assert "more than the whole budget" in decision.message


def test_the_cheaper_target_is_the_first_whose_quote_is_lower() -> None:
    assert cheaper_in(NanoUsd(10), [NanoUsd(10), None, NanoUsd(9), NanoUsd(1)]) == 3
    assert cheaper_in(NanoUsd(10), [NanoUsd(10), NanoUsd(11)]) == 0


@dataclass
class PricedModels(FakeModels):
    """Each target has its quote, and the same counter."""

    quotes: Mapping[str, int] | None = None
    steps: tuple[Step, ...] = ()

    def plan(self, job: Job, target: Target, body: JsonObject, now: datetime) -> Plan | Refusal:
        cost = NanoUsd((self.quotes or {})[target.model])
        counter = BudgetCounter(
            scope="global", window="w", limit_nano_usd=NanoUsd(100), ends_at=TURNS_AT, on_exhausted=self.steps
        )
        quote = Quote(input_tokens=1, output_tokens=1, cost_nano_usd=cost)
        return Plan(target=target, body=body, price=PRICE, quote=quote, counters=(counter,))


class SpentGate(FakeGate):
    """Has 50 left in every counter."""

    async def admit(self, ask: Ask) -> Grant | Wait | Refusal:
        if ask.cost_nano_usd > 50:
            counter = ask.counters[0]
            return Refusal(
                reason=RefusalReason.BUDGET, scope="global", counter=counter, asked_nano_usd=ask.cost_nano_usd
            )
        return await super().admit(ask)


async def test_a_job_goes_on_with_the_cheaper_model_of_its_chain_and_says_so() -> None:
    job = a_job()
    jobs, gate = FakeJobs(job), SpentGate()
    models = PricedModels(
        answers=[a_reply()],
        targets=(DEAR, SAME, CHEAP),
        quotes={"dear": 60, "same": 70, "cheap": 40},
        steps=(Step.CHEAPER,),
    )

    await run_job(job.id, 0, deps_of(jobs, gate, models))

    (first, again), (closed, last) = jobs.records
    assert first is None
    assert isinstance(again, AskAgain)
    assert "a cheaper model" in (again.note or "")
    assert closed is not None
    assert isinstance(last, Complete)
    assert jobs.opens[0].target == CHEAP


async def test_a_job_that_names_its_model_is_never_given_to_another() -> None:
    job = a_job()
    jobs = FakeJobs(job)
    models = PricedModels(answers=[], targets=(DEAR,), quotes={"dear": 60}, steps=(Step.CHEAPER, Step.REJECT))

    await run_job(job.id, 0, deps_of(jobs, SpentGate(), models))

    [(_, decision)] = jobs.records
    assert isinstance(decision, DeadLetter)


async def test_an_old_answer_to_the_same_request_serves_where_no_money_is_left() -> None:
    job = a_job()
    jobs, answers = FakeJobs(job), FakeAnswers(known={job.id: Valid(reply=a_reply("old"), recovery=CACHED)})
    models = PricedModels(answers=[], targets=(DEAR,), quotes={"dear": 60}, steps=(Step.CACHED, Step.REJECT))

    await run_job(job.id, 0, deps_of(jobs, SpentGate(), models, answers=answers))

    [(closed, decision)] = jobs.records
    assert closed is None
    assert isinstance(decision, Complete)
    assert decision.reply.text == "old"
    assert decision.note is not None


async def test_no_old_answer_is_looked_up_while_there_is_money() -> None:
    job = a_job()
    jobs, answers = FakeJobs(job), FakeAnswers()
    models = PricedModels(answers=[a_reply()], targets=(CHEAP,), quotes={"cheap": 40}, steps=(Step.CACHED,))

    await run_job(job.id, 0, deps_of(jobs, SpentGate(), models, answers=answers))

    assert answers.asked == 0
    assert isinstance(jobs.records[0][1], Complete)
