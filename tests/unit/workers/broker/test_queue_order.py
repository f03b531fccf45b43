from collections import Counter
from collections.abc import Sequence

from kombu.utils.scheduling import cycle_by_name

from config.broker import QUEUES, TRANSPORT_OPTIONS
from schemas.lanes import Lane
from workers.broker.queue_order import LaneOrder


def order(*queues: str) -> LaneOrder:
    lanes: LaneOrder = cycle_by_name("workers.broker.queue_order:LaneOrder")()
    lanes.update(queues or QUEUES)
    return lanes


def test_the_most_urgent_lane_comes_first_whatever_the_command_line_says() -> None:
    assert order(*reversed(QUEUES)).consume(4) == list(QUEUES)


def test_lower_lanes_lead_in_their_turns() -> None:
    lanes = order()
    leaders = Counter(lanes.consume(4)[0] for _ in range(80))

    assert leaders == {
        "completions.critical": 64,
        "completions.high": 12,
        "completions.normal": 3,
        "completions.low": 1,
    }


def test_a_turn_changes_the_order_and_leaves_nobody_out() -> None:
    lanes = order()
    fifth = [lanes.consume(4) for _ in range(5)][-1]

    assert fifth == ["completions.high", "completions.critical", "completions.normal", "completions.low"]


def test_lanes_without_room_are_left_out_even_in_their_turn() -> None:
    def no_slices(lanes: Sequence[Lane]) -> Sequence[Lane]:
        return [lane for lane in lanes if lane is Lane.CRITICAL]

    lanes = order()
    lanes.open_lanes = no_slices

    assert {tuple(lanes.consume(4)) for _ in range(80)} == {("completions.critical",)}


def test_a_worker_of_one_lane_asks_for_it_alone() -> None:
    assert order("completions.low").consume(1) == ["completions.low"]


def test_priorities_of_single_messages_are_off() -> None:
    assert TRANSPORT_OPTIONS["priority_steps"] == [0]
