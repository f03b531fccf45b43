"""The decision table, one row per promise."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas.admission import Refusal, RefusalReason, WaitReason
from schemas.decision import AskAgain, Complete, DeadLetter, DeadReason, Decision, Expire, Park, RetryAt, WaitInPlace
from schemas.ids import JobId, TenantId
from schemas.job import Job, Target
from schemas.lanes import Lane
from schemas.outcome import Declined, Failed, Invalid, NotAdmitted, NotAllowed, Outcome, Truncated, Valid, Voided
from schemas.reply import Reply, Trouble, TroubleKind
from schemas.states import JobState
from tasks.execution.progress import Progress
from tasks.execution.retry_policy import decide

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BODY = {"model": "small", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 100}
REPLY = Reply(body={}, text="nonsense", finish_reason="stop", refusal=None, usage=None, model="m")
ONE = (Target(account="a", model="m"),)
TWO = (*ONE, Target(account="b", model="n"))


def job(tries: int = 0, max_reprompts: int = 2, seconds_left: float = 3600) -> Job:
    return Job(
        id=JobId("job_1"),
        tenant_id=TenantId("default"),
        lane=Lane.NORMAL,
        model="small",
        body=BODY,
        request_digest="0",
        expires_at=NOW + timedelta(seconds=seconds_left),
        state=JobState.RUNNING,
        generation=0,
        fence=1,
        tries=tries,
        max_tries=3,
        max_reprompts=max_reprompts,
        created_at=NOW,
    )


def trouble(kind: TroubleKind, retry_after_ms: int | None = None) -> Failed:
    return Failed(trouble=Trouble(kind=kind, message="why", retry_after_ms=retry_after_ms))


def decided(outcome: Outcome, chain: tuple[Target, ...] = ONE, **about: float) -> Decision:
    counts = {name: int(about.pop(name)) for name in ("reprompts", "extensions", "throttles") if name in about}
    streamed = bool(about.pop("streamed", False))
    progress = Progress(body=BODY, chain=chain, streamed=streamed, **counts)
    return decide(job(**about), outcome, progress, now=NOW, jitter=0.5)  # type: ignore[arg-type]  # counts are ints


def test_a_valid_reply_completes() -> None:
    assert decided(Valid(reply=REPLY, output={"a": 1})) == Complete(reply=REPLY, output={"a": 1})


def test_an_invalid_reply_is_reprompted_with_the_complaint_only() -> None:
    decision = decided(Invalid(reply=REPLY, complaint="a: missing"), reprompts=1)

    assert isinstance(decision, AskAgain)
    assert len(decision.body["messages"]) == 3
    assert "a: missing" in decision.body["messages"][-1]["content"]


def test_reprompts_are_bounded() -> None:
    assert decided(Invalid(reply=REPLY, complaint="c"), reprompts=2) == DeadLetter(
        reason=DeadReason.INVALID_OUTPUT, message="c"
    )


def test_a_streamed_reply_cannot_be_taken_back() -> None:
    decision = decided(Invalid(reply=REPLY, complaint="c"), streamed=True)

    assert isinstance(decision, DeadLetter)
    assert decision.reason is DeadReason.CONTRACT_VIOLATION


def test_a_truncated_reply_gets_more_room_once() -> None:
    first, second = decided(Truncated(reply=REPLY)), decided(Truncated(reply=REPLY), extensions=1)

    assert isinstance(first, AskAgain)
    assert first.body["max_completion_tokens"] == 200
    assert isinstance(second, DeadLetter)


def test_a_refusal_is_not_reprompted() -> None:
    assert decided(Declined(reply=REPLY, reason="no")) == DeadLetter(reason=DeadReason.REFUSED, message="no")


def test_waiting_for_admission_costs_no_try() -> None:
    later = NOW + timedelta(seconds=60)

    assert decided(NotAdmitted(until_at=later, since_at=NOW, reason=WaitReason.TOKENS)) == Park(
        until_at=later, reason="tokens_per_minute", waiting_since=NOW
    )


def test_a_throttle_goes_to_admission_again_and_then_waits_in_postgres() -> None:
    assert isinstance(decided(trouble(TroubleKind.THROTTLE)), AskAgain)
    assert isinstance(decided(trouble(TroubleKind.THROTTLE, 5000), throttles=3), Park)


def test_money_is_never_retried_by_the_job() -> None:
    assert isinstance(decided(trouble(TroubleKind.MONEY)), Park)


@pytest.mark.parametrize("kind", [TroubleKind.SERVER, TroubleKind.NOT_SENT, TroubleKind.AMBIGUOUS, TroubleKind.CUT])
def test_passing_trouble_is_tried_later_and_boundedly(kind: TroubleKind) -> None:
    assert decided(trouble(kind)) == RetryAt(at=NOW + timedelta(seconds=0.5), reason=kind.value)
    assert isinstance(decided(trouble(kind), tries=2), DeadLetter)


def test_retry_after_is_a_minimum() -> None:
    assert decided(trouble(TroubleKind.SERVER, 7000)) == RetryAt(at=NOW + timedelta(seconds=7), reason="server")


@pytest.mark.parametrize("kind", [TroubleKind.TOO_LARGE, TroubleKind.MODEL_NOT_FOUND, TroubleKind.MONEY])
def test_the_next_target_is_asked_where_this_one_cannot_help(kind: TroubleKind) -> None:
    decision = decided(trouble(kind), chain=TWO)

    assert isinstance(decision, AskAgain)
    assert decision.next_target


@pytest.mark.parametrize("kind", [TroubleKind.BAD_REQUEST, TroubleKind.FORBIDDEN])
def test_what_the_caller_got_wrong_is_dead_at_once(kind: TroubleKind) -> None:
    assert decided(trouble(kind), chain=TWO) == DeadLetter(reason=DeadReason.BAD_REQUEST, message="why")


def test_a_forbidden_model_is_skipped_or_fails_the_job_at_the_chains_end() -> None:
    last, passed = (decided(trouble(TroubleKind.MODEL_FORBIDDEN), chain=chain) for chain in (ONE, TWO))

    assert last == DeadLetter(reason=DeadReason.BAD_REQUEST, message="why")
    assert isinstance(passed, AskAgain)
    assert passed.next_target


def test_an_unreadable_answer_is_not_asked_for_again() -> None:
    unreadable = trouble(TroubleKind.UNREADABLE)
    last, passed = (decided(unreadable, chain=chain) for chain in (ONE, TWO))
    heard = decide(job(), unreadable, Progress(body=BODY, chain=TWO, streamed=True), now=NOW, jitter=0.5)

    assert last == heard == DeadLetter(reason=DeadReason.INVALID_OUTPUT, message="why")
    assert isinstance(passed, AskAgain)
    assert passed.next_target


@pytest.mark.parametrize("reason", [RefusalReason.BUDGET, RefusalReason.ACCOUNT_STOPPED, RefusalReason.NOT_READY])
def test_a_refusal_that_can_change_parks(reason: RefusalReason) -> None:
    assert isinstance(decided(NotAllowed(refusal=Refusal(reason=reason))), Park)


def test_a_caller_who_waits_hears_a_refusal_at_once_and_waits_for_a_limit() -> None:
    patient = Progress(body=BODY, chain=ONE, patient_until=NOW + timedelta(seconds=30))
    refused = NotAllowed(refusal=Refusal(reason=RefusalReason.NOT_READY))
    limited = NotAdmitted(until_at=NOW + timedelta(seconds=3), since_at=NOW, reason=WaitReason.REQUESTS)

    assert isinstance(decide(job(), refused, patient, now=NOW, jitter=0.5), Park)
    assert isinstance(decide(job(), limited, patient, now=NOW, jitter=0.5), WaitInPlace)


@pytest.mark.parametrize("reason", [RefusalReason.ACCOUNT_STOPPED, RefusalReason.TOO_LARGE])
def test_what_only_this_target_refuses_goes_on_to_the_next(reason: RefusalReason) -> None:
    decision = decided(NotAllowed(refusal=Refusal(reason=reason)), chain=TWO)

    assert isinstance(decision, AskAgain)
    assert decision.next_target


def test_a_request_larger_than_any_bucket_is_dead() -> None:
    assert isinstance(decided(NotAllowed(refusal=Refusal(reason=RefusalReason.TOO_LARGE))), DeadLetter)


@pytest.mark.parametrize(
    ("refused", "dead"),
    [
        (RefusalReason.UNKNOWN_PRICE, DeadReason.UNKNOWN_PRICE),
        (RefusalReason.UNKNOWN_MODEL, DeadReason.MODEL_NOT_FOUND),
    ],
)
def test_what_only_the_configuration_can_mend_is_dead_with_its_reason(refused: RefusalReason, dead: DeadReason) -> None:
    decision = decided(NotAllowed(refusal=Refusal(reason=refused, scope="m")))

    assert isinstance(decision, DeadLetter)
    assert decision.reason is dead


def test_a_voided_grant_waits_without_a_try() -> None:
    assert isinstance(decided(Voided()), Park)


def test_nothing_is_scheduled_beyond_the_deadline() -> None:
    assert decided(trouble(TroubleKind.SERVER, 7000), seconds_left=5) == Expire()
    assert decided(Invalid(reply=REPLY, complaint="c"), seconds_left=0) == Expire()


def test_a_reply_that_came_in_time_for_nobody_still_completes() -> None:
    assert isinstance(decided(Valid(reply=REPLY), seconds_left=-1), Complete)
