"""A broker that remembers what was published, and flows that are always open."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.errors import RedisUnavailable
from schemas.ids import TenantId
from schemas.job import Published
from schemas.lanes import Flow, Lane
from schemas.tenants import ShareCapacity


@dataclass
class Wire:
    """Keeps messages as (lane, jobs, slice size), or is away."""

    sent: list[tuple[Lane, int, int]] = field(default_factory=list)
    jobs: list[Published] = field(default_factory=list)
    broken: bool = False

    async def publish(self, lane: Lane, jobs: Sequence[Published], slice_size: int = 1) -> int:
        if self.broken:
            raise RedisUnavailable
        self.sent.append((lane, len(jobs), slice_size))
        self.jobs.extend(jobs)
        return len(jobs)


@dataclass
class Open:
    """Every flow has the same window, unless `shut` has another one for its model."""

    size: int
    shut: dict[str, int] = field(default_factory=dict)

    async def window(self, flow: Flow) -> int:
        return self.shut.get(flow.model, self.size)


@dataclass
class Shares:
    """The same capacities in every flow; without any, no tenant has a limit."""

    of_tenant: dict[TenantId, ShareCapacity] = field(default_factory=dict)

    async def capacities(self, _flow: Flow) -> dict[TenantId, ShareCapacity]:
        return self.of_tenant
