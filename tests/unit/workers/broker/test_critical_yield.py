"""Who is asked for critical messages, when several could serve them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from schemas.lanes import Lane
from workers.broker.critical_yield import CriticalYield

EVERYTHING = tuple(Lane)
URGENT = (Lane.CRITICAL, Lane.HIGH)
LOWER = [Lane.HIGH, Lane.NORMAL, Lane.LOW]


@dataclass
class Worker:
    """A process and its broker, as far as the order of lanes is concerned."""

    busy: bool = True
    lying: int = 0
    woken: int = 0

    def courteous(self, has_room: Callable[[Sequence[Lane]], Sequence[Lane]] = list) -> CriticalYield:
        return CriticalYield(has_room, is_busy=lambda: self.busy, lying=lambda: self.lying, wake=self._wake)

    def _wake(self) -> None:
        self.woken += 1


def test_a_process_busy_with_lower_lanes_leaves_critical_to_others() -> None:
    assert Worker().courteous().open_lanes(EVERYTHING) == LOWER


def test_an_idle_process_and_one_for_urgent_lanes_leave_nothing_to_others() -> None:
    assert Worker(busy=False).courteous().open_lanes(EVERYTHING) == list(EVERYTHING)
    assert Worker().courteous().open_lanes(URGENT) == list(URGENT)


def test_an_untaken_critical_message_is_asked_for_until_none_is_left() -> None:
    worker = Worker()
    critical_yield = worker.courteous()
    critical_yield.open_lanes(EVERYTHING)
    critical_yield.look()
    assert worker.woken == 0

    worker.lying = 2
    critical_yield.look()
    assert worker.woken == 1
    assert critical_yield.open_lanes(EVERYTHING) == list(EVERYTHING)
    critical_yield.look()
    assert critical_yield.open_lanes(EVERYTHING) == list(EVERYTHING)
    assert worker.woken == 1  # it was being asked for already

    worker.lying = 0
    critical_yield.look()
    assert critical_yield.open_lanes(EVERYTHING) == LOWER


def test_a_full_lane_is_not_looked_after() -> None:
    worker = Worker(lying=1)
    critical_yield = worker.courteous(lambda _: [])

    assert list(critical_yield.open_lanes(EVERYTHING)) == []
    critical_yield.look()

    assert worker.woken == 0
