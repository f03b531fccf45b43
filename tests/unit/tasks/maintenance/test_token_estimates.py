"""Telling and hearing: nothing that was learned is lost or told twice while Postgres comes and goes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from providers.tokens.estimates import Estimates
from schemas.errors import PostgresUnavailable
from schemas.estimates import Lesson, Sums, Topic
from schemas.job import Target
from tasks.maintenance.token_estimates import exchange

TARGET = Target(account="a", model="m")


@dataclass
class Shared:
    """Adds lessons up without forgetting; away when told to be."""

    known: dict[Topic, Sums] = field(default_factory=dict)
    away: bool = False

    async def exchange(self, lessons: Sequence[Lesson]) -> Mapping[Topic, Sums]:
        if self.away:
            raise PostgresUnavailable
        for lesson in lessons:
            start = Sums(calls=0, values=(0.0,) * len(lesson.sums.values))
            old = self.known.get(lesson.topic, start)
            self.known[lesson.topic] = old.followed_by(lesson.sums, (1.0,) * len(old.values))
        return self.known


def learn(estimates: Estimates, calls: int) -> float:
    measured = estimates.estimate(TARGET, {"messages": [{"role": "user", "content": "word " * 400}]}, 10**6).measured
    assert measured is not None
    for _ in range(calls):
        estimates.learn(measured, 900)
    return estimates.likely(measured)


async def test_what_is_learned_while_postgres_is_away_is_told_once_it_is_back() -> None:
    estimates, shared = Estimates(lambda _: None), Shared(away=True)
    learn(estimates, 5)
    assert not await exchange(estimates, shared.exchange)
    learn(estimates, 3)
    shared.away = False

    assert await exchange(estimates, shared.exchange)
    assert await exchange(estimates, shared.exchange)

    [sums] = shared.known.values()
    assert sums.calls == 8


async def test_a_new_process_estimates_as_the_others_have_learned() -> None:
    old, new, shared = Estimates(lambda _: None), Estimates(lambda _: None), Shared()
    before = learn(new, 0)
    learned = learn(old, 200)
    await exchange(old, shared.exchange)

    await exchange(new, shared.exchange)

    assert abs(learn(new, 0) - learned) < abs(before - learned) / 10
