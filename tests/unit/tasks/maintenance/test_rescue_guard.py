"""Nobody is declared dead who could not have renewed its lease."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tasks.maintenance.rescue_guard import RENEWAL_SECONDS, SILENCE_SECONDS, RescueGuard

STARTED_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Store:
    """A clock, and a store that answers after `silent` seconds and starts to rescue after `stuck` seconds."""

    now: float = 0.0
    silent: float = 0.0
    stuck: float = 0.0
    rescued_as_of: list[datetime] = field(default_factory=list)

    async def ask(self) -> datetime:
        self.now += self.silent
        return self.time()

    async def rescue(self, asked_at: datetime) -> int:
        self.now += self.stuck
        self.rescued_as_of.append(asked_at)
        return 1

    def time(self) -> datetime:
        return STARTED_AT + timedelta(seconds=self.now)

    def clock(self) -> float:
        return self.now


async def test_the_dead_are_rescued_while_the_store_answers() -> None:
    store = Store()
    rescue_guard = RescueGuard(store.ask, store.rescue, clock=store.clock)

    for _ in range(3):
        assert await rescue_guard.rescue() == 1
        store.now += 1.0


async def test_after_a_silence_the_living_renew_first() -> None:
    store = Store()
    rescue_guard = RescueGuard(store.ask, store.rescue, clock=store.clock)
    await rescue_guard.rescue()
    store.silent = SILENCE_SECONDS + 1

    assert await rescue_guard.rescue() == 0
    back_at, store.silent = store.now, 0.0
    while store.now < back_at + RENEWAL_SECONDS:
        assert await rescue_guard.rescue() == 0
        store.now += 1.0

    assert await rescue_guard.rescue() == 1


async def test_nobody_is_dead_who_lived_when_the_store_answered() -> None:
    store = Store(stuck=60.0)
    rescue_guard = RescueGuard(store.ask, store.rescue, clock=store.clock)
    answered_at = store.time()

    await rescue_guard.rescue()

    assert store.time() > answered_at
    assert store.rescued_as_of == [answered_at]


async def test_a_candidate_that_asked_to_lead_need_not_wait_once_it_leads() -> None:
    store = Store()
    rescue_guard = RescueGuard(store.ask, store.rescue, clock=store.clock)
    may_lead = rescue_guard.observing(store.ask)
    await rescue_guard.rescue()

    for _ in range(20):  # another one leads
        store.now += 1.0
        await may_lead()

    assert await rescue_guard.rescue() == 1


async def test_a_silence_is_noted_by_whoever_asked_in_it() -> None:
    store = Store()
    rescue_guard = RescueGuard(store.ask, store.rescue, clock=store.clock)
    may_lead = rescue_guard.observing(store.ask)
    await may_lead()
    store.silent = SILENCE_SECONDS + 1
    await may_lead()
    store.silent = 0.0

    assert await rescue_guard.rescue() == 0
