"""A leader asks seldom and believes itself for less than its lease."""

from dataclasses import dataclass

from workers.upkeep.leader import Leader


@dataclass
class Lease:
    granted: bool = True
    asked: int = 0
    now: float = 100.0

    async def lead(self) -> bool:
        self.asked += 1
        return self.granted

    def clock(self) -> float:
        return self.now


async def test_a_leader_asks_once_a_second() -> None:
    lease = Lease()
    leader = Leader(lease.lead, clock=lease.clock)

    assert [await leader.leads() for _ in range(3)] == [True, True, True]
    assert lease.asked == 1


async def test_a_leader_that_was_paused_asks_again_before_it_does_anything() -> None:
    lease = Lease()
    leader = Leader(lease.lead, clock=lease.clock)
    await leader.leads()

    lease.now, lease.granted = lease.now + 60, False

    assert not await leader.leads()


async def test_who_does_not_lead_asks_every_time() -> None:
    lease = Lease(granted=False)
    leader = Leader(lease.lead, clock=lease.clock)

    assert [await leader.leads(), await leader.leads()] == [False, False]
    assert lease.asked == 2
