"""Trouble of a call: what is settled, whom it freezes or doubts, and where the job goes next."""

from dataclasses import replace

import pytest

from schemas.admission import LimitFigures, Penalty, SettleKind, WaitReason
from schemas.attempt import AttemptState
from schemas.decision import Complete, DeadLetter, Park, RetryAt
from schemas.job import Target
from schemas.reply import TroubleKind
from tasks.execution.asks import SHORTEST_FREEZE_MS
from tests.support.fakes import TARGET, FakeModels, a_reply
from tests.support.pipeline_runs import JOB, run, trouble


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


async def test_a_ramp_is_told_apart_from_a_throttle_and_figures_are_handed_on() -> None:
    figures = LimitFigures(limit=60, used=60, requested=1, wait_ms=900)
    throttle = replace(trouble(TroubleKind.THROTTLE), limit=WaitReason.REQUESTS, figures=figures, retry_after_ms=900)

    _, gate = await run(FakeModels([trouble(TroubleKind.RAMP), throttle, a_reply()]))

    assert [penalty for _, penalty in gate.penalties] == [
        Penalty(wait_ms=SHORTEST_FREEZE_MS, ramp=True),
        Penalty(wait_ms=900, limit=WaitReason.REQUESTS, figures=figures),
    ]


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
