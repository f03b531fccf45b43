"""Upkeep's questions to accounts: at ages that double, and an account that is away loses no turn."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from bench.store.sample_jobs import PRICE, opened
from schemas.attempt import OpenedAttempt
from schemas.errors import AccountUnavailable
from schemas.ids import AttemptId, JobId
from schemas.job import Lease, Target
from schemas.money import NanoUsd, Price, Usage
from schemas.reply import Reply
from storage.ledger.unresolved import Span
from tasks.ledger.unresolved import ASKED_PER_ROUND, FIRST_LOOK_SECONDS, LookUps
from tests.support.fakes import a_reply

USAGE = Usage(input_tokens=1, output_tokens=1)
BEGAN = datetime(2026, 11, 28, tzinfo=UTC)
LEASE = Lease(job_id=JobId("job_1"), fence=1, holder="w", until_at=BEGAN)


def lost_at(account: str) -> OpenedAttempt:
    return replace(opened(LEASE), target=Target(account=account, model="m"))


@dataclass
class Accounts:
    """Accounts that know nothing, some of which are away."""

    attempts: Sequence[OpenedAttempt]
    away: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    asked_about: list[AttemptId] = field(default_factory=list)
    answers_before_away: int | None = None
    answer: Reply | None = None
    posted: list[NanoUsd] = field(default_factory=list)
    passed_seconds: float = FIRST_LOOK_SECONDS

    async def left_behind(
        self, account: str, since: Sequence[Span], *, behind: OpenedAttempt | None, most: int
    ) -> Sequence[OpenedAttempt]:
        if not any(span.after < BEGAN <= span.until for span in since):
            return []
        of_account = [attempt for attempt in self.attempts if attempt.target.account == account]
        first = 0 if behind is None else 1 + of_account.index(behind)
        return of_account[first : first + most]

    async def look_up(self, target: Target, attempt_id: AttemptId) -> Reply | None:
        self.asked.append(target.account)
        self.asked_about.append(attempt_id)
        if target.account in self.away or self.answers_before_away == 0:
            raise AccountUnavailable
        if self.answers_before_away is not None:
            self.answers_before_away -= 1
        return self.answer

    def served_price(self, _: OpenedAttempt, reply: Reply) -> Price:
        return PRICE

    async def post(self, _: AttemptId, cost: NanoUsd) -> bool:
        self.posted.append(cost)
        return True

    async def settle(self, _: object) -> bool:
        return True

    def look_ups(self) -> LookUps:
        return LookUps(
            rows=self,
            post=self.post,
            settle=self.settle,
            keepers=self,
            accounts={"near", "far"},
            now=lambda: BEGAN + timedelta(seconds=self.passed_seconds),
        )


async def test_each_is_asked_about_when_its_age_has_doubled() -> None:
    accounts = Accounts([lost_at("near")])
    look_ups, asked = accounts.look_ups(), []

    for times in (0.9, 1.0, 1.5, 2.0, 3.9, 4.0, 70.0, 71.0):
        accounts.passed_seconds = times * FIRST_LOOK_SECONDS
        await look_ups.look()
        asked.append(len(accounts.asked))

    assert asked == [0, 1, 1, 2, 2, 3, 4, 4]


async def test_an_absent_account_is_asked_once_a_look_in_turn_delaying_no_other() -> None:
    accounts = Accounts([lost_at("far"), lost_at("far"), lost_at("near"), lost_at("near")], away={"far"})
    look_ups = accounts.look_ups()

    await look_ups.look()
    await look_ups.look()
    accounts.away.clear()
    accounts.passed_seconds += 1
    await look_ups.look()

    assert accounts.asked == ["far", "near", "near", "far", "far", "far"]


async def test_an_account_answering_a_few_at_a_time_is_asked_all_in_the_end() -> None:
    accounts = Accounts([lost_at("near") for _ in range(5)])
    look_ups = accounts.look_ups()

    for _ in range(3):
        accounts.answers_before_away = 2
        await look_ups.look()
        accounts.passed_seconds += 0.1

    a, b, c, d, e = (attempt.id for attempt in accounts.attempts)
    assert accounts.asked_about == [a, b, c, c, d, e, e]


async def test_attempts_beyond_a_round_are_asked_about_in_the_next_once_a_turn() -> None:
    accounts = Accounts([lost_at("near") for _ in range(5 * ASKED_PER_ROUND // 2)])
    look_ups, asked = accounts.look_ups(), []

    for seconds in (10, 15, 20, 25, 30, 35, 39):
        accounts.passed_seconds = seconds
        await look_ups.look()
        asked.append(len(accounts.asked))

    assert asked == [100, 200, 250, 350, 450, 500, 500]
    ids = [attempt.id for attempt in accounts.attempts]
    assert accounts.asked_about == [*ids, *ids]


async def test_what_is_found_is_posted_at_its_price() -> None:
    accounts = Accounts([lost_at("near")], answer=a_reply())

    assert await accounts.look_ups().look() == 1

    assert accounts.answer is not None
    assert accounts.answer.usage is not None
    assert accounts.posted == [PRICE.cost(accounts.answer.usage)]


class OddAccounts(Accounts):
    """Accounts of which one answers what nobody can read."""

    async def look_up(self, target: Target, attempt_id: AttemptId) -> Reply | None:
        if target.account == "far":
            self.asked.append("far")
            raise OverflowError
        return await super().look_up(target, attempt_id)


async def test_an_unreadable_answer_delays_no_other_attempt_or_account() -> None:
    accounts = OddAccounts([lost_at("far"), lost_at("far"), lost_at("near")], answer=a_reply(usage=USAGE))

    booked = await accounts.look_ups().look()

    assert booked == 1
    assert accounts.asked == ["far", "far", "near"]
