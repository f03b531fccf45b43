"""Bounds of connections."""

import resource
from dataclasses import dataclass

from config.descriptors import BESIDE_CALLS, PER_CALL_IN_WEB
from config.settings import Settings

MAX_FRAMING_BYTES = 64_000
"""Framing per request, plus the body's size. SDKs' heads have a few thousand bytes."""

MAX_HEADERS = 128
"""Headers and trailers; SDKs and proxies send about 20."""

FREE_PIECES = 1_000
MIN_AVERAGE_PIECE_BYTES = 16
"""Smallest average beyond FREE_PIECES: four connections of one-byte chunks kept the process busy."""

MAX_PIPELINED_REQUESTS = 16
"""Hardly any client pipelines more than one request."""

LINGER_SECONDS = 2.0
"""The rest of a request is discarded this long, because a reset would lose an early response."""
LINGER_BYTES = 8_000_000
"""Twice the largest body of a single request."""

UNSENT_BYTES = 128_000
"""Kernel buffer per connection; small, so that a slow client shows at once."""

SPARE_CONNECTIONS = 32
"""Connections beyond the cap, for probes and tenants with few requests."""
MAX_CONNECTIONS = 10_000
"""A connection takes about 20 kB."""


def possible_connections(settings: Settings) -> int:
    """Return the maximum by settings and file descriptors."""
    soft_descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(settings.max_connections or MAX_CONNECTIONS, connections_within(soft_descriptors))


def connections_within(soft_descriptors: int) -> int:
    """Return how many connections fit, each with a provider call; at least one."""
    return max(1, (soft_descriptors - BESIDE_CALLS) // PER_CALL_IN_WEB)


@dataclass(kw_only=True, slots=True)
class Progress:
    """Tracks a body's progress and its deadline.

    The gap between reads and the average rate are bounded: `seconds`, plus one second for each `bytes_per_second`
    received.
    """

    began_at: float
    last_at: float
    seconds: float
    bytes_per_second: int
    came_bytes: int = 0

    def add(self, size: int, now: float) -> None:
        """Count received bytes."""
        self.came_bytes += size
        self.last_at = now

    @property
    def due_at(self) -> float:
        """When the client counts as too slow."""
        by_average = self.began_at + self.seconds + self.came_bytes / self.bytes_per_second
        return min(self.last_at + self.seconds, by_average)
