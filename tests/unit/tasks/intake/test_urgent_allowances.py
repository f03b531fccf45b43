"""Intake counts rarely, publishes few urgent jobs of a tenant itself, and never lets one tenant use another's room."""

from dataclasses import dataclass, field

from schemas.ids import TenantId
from schemas.lanes import Lane
from tasks.intake.urgent_allowances import MOST_UNCLAIMED, RECOUNT_SECONDS, Allowances

GREEDY, MODEST = TenantId("greedy"), TenantId("modest")


@dataclass
class Published:
    """Jobs that no worker has claimed, by tenant, and how often somebody counted them."""

    unclaimed: dict[TenantId, int] = field(default_factory=dict)
    counts: int = 0
    now: float = 0.0

    async def count(self, tenant_id: TenantId, lane: Lane, most: int) -> int:
        self.counts += 1
        return min(most, self.unclaimed.get(tenant_id, 0))

    def allowances(self) -> Allowances:
        return Allowances(self.count, clock=lambda: self.now)


async def taken(allowances: Allowances, tenant_id: TenantId, times: int) -> int:
    return sum([await allowances.take(tenant_id, Lane.CRITICAL) for _ in range(times)])


async def test_what_has_room_is_counted_once_in_32_times() -> None:
    published = Published()

    assert await taken(published.allowances(), GREEDY, 10 * MOST_UNCLAIMED) == 10 * MOST_UNCLAIMED
    assert published.counts == 10


async def test_a_flood_is_counted_ten_times_a_second_and_held_to_its_room() -> None:
    published = Published(unclaimed={GREEDY: MOST_UNCLAIMED})
    allowances = published.allowances()

    assert await taken(allowances, GREEDY, 1_000) == 0
    assert published.counts == 1
    assert await taken(allowances, MODEST, 1) == 1

    published.now, published.unclaimed[GREEDY] = RECOUNT_SECONDS, MOST_UNCLAIMED - 3
    assert await taken(allowances, GREEDY, 3) == 3


async def test_room_in_one_lane_is_none_in_another() -> None:
    published = Published(unclaimed={GREEDY: MOST_UNCLAIMED - 1})
    allowances = published.allowances()

    assert [await allowances.take(GREEDY, lane) for lane in (Lane.CRITICAL, Lane.HIGH)] == [True, True]
    assert published.counts == 2
