"""What the pipeline does is counted: attempts, tokens, money, waits and decisions."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from prometheus_client import CollectorRegistry

from config.metrics import Metrics
from schemas.admission import Refusal, RefusalReason, Wait, WaitReason
from schemas.ids import JobId
from schemas.reply import Reply, Trouble, TroubleKind
from tasks.execution.observer import MetricsObserver
from tasks.execution.pipeline import run_job
from tests.support.fakes import TARGET, FakeGate, FakeJobs, FakeModels, a_job, a_reply, deps_of

NAME = str(TARGET)


async def counted(
    answers: Sequence[Reply | Trouble], jobs: FakeJobs | None = None, gate: FakeGate | None = None
) -> Callable[..., float | None]:
    """Run a job with a clock that ticks at each look; return how to read a sample."""
    registry, ticks = CollectorRegistry(), count()
    deps = deps_of(
        jobs or FakeJobs(a_job()), gate or FakeGate(), FakeModels([*answers]), clock=lambda: float(next(ticks))
    )
    await run_job(JobId("job_1"), 0, replace(deps, observer=MetricsObserver(Metrics(registry))))

    return lambda name, **labels: registry.get_sample_value(name, labels)


async def test_attempts_tokens_money_and_decisions_are_counted() -> None:
    value = await counted([Trouble(kind=TroubleKind.THROTTLE, message="later"), a_reply()])

    assert value("penstock_attempts_total", target=NAME, outcome="throttle") == 1
    assert value("penstock_attempts_total", target=NAME, outcome="reply") == 1
    assert value("penstock_tokens_total", target=NAME, direction="input") == 10
    assert value("penstock_tokens_total", target=NAME, direction="output") == 5
    assert value("penstock_cost_nano_usd_total") == 20
    assert value("penstock_job_decisions_total", outcome="throttle", decision="AskAgain") == 1
    assert value("penstock_job_decisions_total", outcome="valid", decision="Complete") == 1
    assert value("penstock_admission_wait_seconds_count", lane="normal") == 2
    assert value("penstock_admission_wait_seconds_sum", lane="normal") == 2
    assert value("penstock_call_seconds_sum", target=NAME) == 2


async def test_only_a_grant_ends_a_wait_for_admission() -> None:
    later = Wait(retry_after_ms=60_000, reason=WaitReason.TOKENS)
    for answer, decision in ((later, "Park"), (Refusal(reason=RefusalReason.TOO_LARGE), "DeadLetter")):
        value = await counted([], gate=FakeGate(answers=[answer]))

        assert value("penstock_job_decisions_total", outcome="not_called", decision=decision) == 1
        assert value("penstock_admission_wait_seconds_count", lane="normal") is None
        assert value("penstock_call_seconds_count", target=NAME) is None


async def test_a_decision_without_the_fence_is_counted_as_lost() -> None:
    value = await counted([a_reply()], jobs=FakeJobs(a_job(), fence_lost=True))

    assert value("penstock_job_decisions_total", outcome="valid", decision="FenceLost") == 1
    assert value("penstock_job_decisions_total", outcome="valid", decision="Complete") is None
    assert value("penstock_cost_nano_usd_total") == 20


async def test_an_unresolved_charge_is_not_counted_as_cost() -> None:
    value = await counted([Trouble(kind=TroubleKind.AMBIGUOUS, message="cut")])

    assert value("penstock_attempts_total", target=NAME, outcome="ambiguous") == 1
    assert value("penstock_cost_nano_usd_total") == 0


async def test_a_call_that_hit_a_bug_is_no_attempt_that_ended() -> None:
    value = await counted([])

    assert value("penstock_job_decisions_total", outcome="internal_error", decision="DeadLetter") == 1
    assert value("penstock_call_seconds_count", target=NAME) is None
