import asyncio
from contextlib import suppress

import pytest

from schemas.lanes import Lane
from workers.pool.slots import Slots

TOTAL, RESERVED, SLICE = 6, 2, 3


@pytest.fixture
def slots() -> Slots:
    return Slots(TOTAL, RESERVED, SLICE)


class Work:
    """Jobs that hold their slot until they are let go."""

    def __init__(self, slots: Slots) -> None:
        self._slots, self._go = slots, asyncio.Event()
        self.started: list[str] = []

    def start(self, lane: Lane, name: str) -> "asyncio.Task[None]":
        return asyncio.create_task(self._hold(lane, name))

    async def _hold(self, lane: Lane, name: str) -> None:
        async with self._slots.held(lane):
            self.started.append(name)
            await self._go.wait()

    def let_go(self) -> None:
        self._go.set()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def ended(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_other_lanes_leave_the_reserved_slots_free(slots: Slots) -> None:
    work = Work(slots)
    low = [work.start(Lane.LOW, f"low {index}") for index in range(TOTAL)]
    await settle()
    assert len(work.started) == TOTAL - RESERVED

    critical = [work.start(Lane.CRITICAL, f"critical {index}") for index in range(RESERVED + 1)]
    await settle()
    assert work.started[TOTAL - RESERVED :] == ["critical 0", "critical 1"]
    assert (slots.in_use, slots.waiting) == (TOTAL, TOTAL - (TOTAL - RESERVED) + 1)

    await ended(*low, *critical)
    assert (slots.in_use, slots.waiting) == (0, 0)


async def test_critical_jobs_may_take_every_slot(slots: Slots) -> None:
    work = Work(slots)
    tasks = [work.start(Lane.CRITICAL, str(index)) for index in range(TOTAL)]
    await settle()

    assert len(work.started) == TOTAL
    await ended(*tasks)


async def test_a_freed_slot_goes_to_the_most_urgent_who_waits(slots: Slots) -> None:
    work = Work(slots)
    holders = [work.start(Lane.LOW, "holder") for _ in range(TOTAL - RESERVED)]
    await settle()
    waiters = [work.start(lane, lane.value) for lane in (Lane.LOW, Lane.NORMAL, Lane.HIGH)]
    await settle()

    await ended(*holders[:2])
    await settle()

    assert work.started[TOTAL - RESERVED :] == ["high", "normal"]
    await ended(*holders, *waiters)


async def test_whoever_is_cancelled_while_waiting_takes_no_slot(slots: Slots) -> None:
    work = Work(slots)
    holders = [work.start(Lane.LOW, "holder") for _ in range(TOTAL - RESERVED)]
    await settle()
    impatient, patient = work.start(Lane.LOW, "impatient"), work.start(Lane.LOW, "patient")
    await settle()

    holders[0].cancel()
    impatient.cancel()  # the slot may have been granted to it already
    await settle()

    assert work.started[-1] == "patient"
    await ended(*holders, impatient, patient)
    assert slots.in_use == 0


async def test_a_lane_has_room_for_its_whole_message(slots: Slots) -> None:
    work = Work(slots)
    assert slots.open_lanes(tuple(Lane)) == list(Lane)

    first = [work.start(Lane.LOW, "low") for _ in range(2)]  # two of four are left: one job, but no slice
    await settle()
    assert slots.open_lanes(tuple(Lane)) == [Lane.CRITICAL, Lane.HIGH]
    more = [work.start(Lane.LOW, "low") for _ in range(2)]
    await settle()
    assert slots.open_lanes(tuple(Lane)) == [Lane.CRITICAL]
    critical = [work.start(Lane.CRITICAL, "critical") for _ in range(RESERVED)]
    await settle()
    assert slots.open_lanes(tuple(Lane)) == []

    await ended(*first, *more, *critical)


async def test_what_is_on_its_way_to_the_loop_counts_as_a_slice(slots: Slots) -> None:
    slots.hand_over()
    assert slots.open_lanes(tuple(Lane)) == [Lane.CRITICAL, Lane.HIGH]

    slots.begin()
    assert slots.open_lanes(tuple(Lane)) == list(Lane)


async def test_room_for_a_lane_that_was_left_out_wakes_the_consumer_once(slots: Slots) -> None:
    woken: list[bool] = []
    slots.wake = lambda: woken.append(True)
    work = Work(slots)
    tasks = [work.start(Lane.LOW, "low") for _ in range(TOTAL - RESERVED)]
    await settle()
    slots.open_lanes((Lane.LOW,))

    await ended(tasks[0])
    await ended(tasks[1])
    assert woken == []  # two free: not a slice yet
    await ended(tasks[2])
    await ended(tasks[3])

    assert woken == [True]
