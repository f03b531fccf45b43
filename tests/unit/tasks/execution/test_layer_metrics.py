"""What passes through the pipeline's deps is counted, and changed by nothing."""

from itertools import count

from prometheus_client import CollectorRegistry

from config.metrics import Metrics
from schemas.ids import JobId
from schemas.reply import Trouble, TroubleKind
from tasks.execution.layers.metrics import observed
from tasks.execution.pipeline import run_job
from tests.support.fakes import TARGET, FakeGate, FakeJobs, FakeModels, a_job, a_reply, deps_of


async def test_attempts_tokens_money_and_decisions_are_counted() -> None:
    registry, ticks = CollectorRegistry(), count()
    deps = deps_of(
        FakeJobs(a_job()), FakeGate(), FakeModels([Trouble(kind=TroubleKind.THROTTLE, message="later"), a_reply()])
    )

    await run_job(JobId("job_1"), 0, observed(deps, Metrics(registry), lambda: float(next(ticks))))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    target = str(TARGET)
    assert value("penstock_attempts_total", target=target, outcome="throttle") == 1
    assert value("penstock_attempts_total", target=target, outcome="reply") == 1
    assert value("penstock_tokens_total", target=target, direction="input") == 10
    assert value("penstock_tokens_total", target=target, direction="output") == 5
    assert value("penstock_cost_nano_usd_total") == 20
    assert value("penstock_job_decisions_total", outcome="throttle", decision="AskAgain") == 1
    assert value("penstock_job_decisions_total", outcome="valid", decision="Complete") == 1
    assert value("penstock_admission_wait_seconds_count", lane="normal") == 2
    assert value("penstock_call_seconds_count", target=target) == 2
