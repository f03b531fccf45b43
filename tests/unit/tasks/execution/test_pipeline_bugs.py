"""Bugs and unstorable values end their job once, and its money is accounted for."""

from inspect import iscoroutinefunction

from schemas.admission import SettleKind
from schemas.attempt import AttemptState, ClosedAttempt, OpenedAttempt
from schemas.decision import DeadLetter, DeadReason, Decision
from schemas.job import Lease
from schemas.reply import Reply, Trouble
from tests.support.fakes import FakeJobs, FakeModels, a_job, a_reply
from tests.support.pipeline_runs import dead_of, run


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
