"""Nobody is declared dead who could not have renewed its lease."""

from dataclasses import dataclass, field

from tasks.vigil import RENEWAL_SECONDS, SILENCE_SECONDS, Vigil


@dataclass
class Store:
    """A clock, a store that answers after `silent` seconds, and how often it was asked to rescue."""

    now: float = 0.0
    silent: float = 0.0
    rescues: list[float] = field(default_factory=list)

    async def ask(self) -> None:
        self.now += self.silent

    async def rescue(self) -> int:
        self.rescues.append(self.now)
        return 1

    def clock(self) -> float:
        return self.now


async def test_the_dead_are_rescued_while_the_store_answers() -> None:
    store = Store()
    vigil = Vigil(store.ask, store.rescue, clock=store.clock)

    for _ in range(3):
        assert await vigil.rescue() == 1
        store.now += 1.0


async def test_after_a_silence_the_living_renew_first() -> None:
    store = Store()
    vigil = Vigil(store.ask, store.rescue, clock=store.clock)
    await vigil.rescue()
    store.silent = SILENCE_SECONDS + 1

    assert await vigil.rescue() == 0
    back_at, store.silent = store.now, 0.0
    while store.now < back_at + RENEWAL_SECONDS:
        assert await vigil.rescue() == 0
        store.now += 1.0

    assert await vigil.rescue() == 1


async def test_a_candidate_that_asked_whether_it_may_lead_need_not_wait_when_it_does() -> None:
    store = Store()
    vigil = Vigil(store.ask, store.rescue, clock=store.clock)
    may_lead = vigil.heeding(store.ask)
    await vigil.rescue()

    for _ in range(20):  # another one leads
        store.now += 1.0
        await may_lead()

    assert await vigil.rescue() == 1


async def test_a_silence_is_noted_by_whoever_asked_in_it() -> None:
    store = Store()
    vigil = Vigil(store.ask, store.rescue, clock=store.clock)
    may_lead = vigil.heeding(store.ask)
    await may_lead()
    store.silent = SILENCE_SECONDS + 1
    await may_lead()
    store.silent = 0.0

    assert await vigil.rescue() == 0
