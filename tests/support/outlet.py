"""A broker that remembers what was published."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.errors import RedisUnavailable
from schemas.lanes import Lane
from tasks.publish import Published


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
