"""The one function, over fakes: what is written, settled and sent, in which order and how often."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from config.marks import FOLDER, marks_of
from schemas.admission import Refusal, SettleKind
from schemas.attempt import OpenedAttempt
from schemas.decision import AskAgain, Complete, DeadLetter, Park
from schemas.ids import AttemptId
from schemas.job import Job, Target
from schemas.jsons import JsonObject
from schemas.money import Price
from schemas.plan import Plan
from schemas.reply import Reply, Trouble
from tasks.execution.deps import OnChunk
from tasks.execution.pipeline import run_job
from tests.support.fakes import FakeGate, FakeJobs, FakeModels, a_job, a_reply, deps_of
from tests.support.pipeline_runs import JOB, run


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


async def test_a_grant_of_a_past_epoch_is_released_and_nothing_is_sent() -> None:
    jobs, gate = await run(FakeModels([]), jobs=FakeJobs(a_job(), epoch_passed=True))

    assert [s.kind for s in gate.settled] == [SettleKind.RELEASE]
    assert isinstance(jobs.records[0][1], Park)


async def test_a_worker_that_lost_its_fence_settles_and_stops() -> None:
    answers: list[Reply | Trouble] = [a_reply("bad"), a_reply()]
    models = FakeModels(answers)

    _, gate = await run(models, jobs=FakeJobs(a_job(), fence_lost=True))

    assert len(gate.settled) == 1
    assert len(models.bodies) == 1


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
