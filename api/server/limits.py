"""What one connection may cost, and how many there may be."""

import resource
from dataclasses import dataclass

from config.descriptors import BESIDE_CALLS, PER_CALL_IN_WEB
from config.settings import Settings

MAX_FRAMING_BYTES = 64_000
"""Bytes of framing per request, on top of as many bytes as its body has: heads, chunk sizes, trailers. The largest
heads of SDKs and proxies have a few thousand bytes."""

MAX_HEADERS = 128
"""Headers and trailers of one request; SDKs and proxies send about 20."""

FREE_PIECES = 1_000
MIN_AVERAGE_PIECE_BYTES = 16
"""A body may come in this many pieces of any size; beyond, pieces must have this size on average. A piece costs about a
microsecond; four connections full of one-byte chunks kept the process fully busy."""

MAX_PIPELINED_REQUESTS = 16
"""Requests that may queue behind one that is being answered. Hardly any client sends more than one."""

LINGER_SECONDS = 2.0
"""After a response that precedes the end of its request, the rest is discarded for this long, because resetting the
connection would lose the response."""
LINGER_BYTES = 8_000_000
"""Twice the largest body of a single request."""

UNSENT_BYTES = 128_000
"""What the kernel buffers per connection beyond what its client reads. Small, so that a slow client shows at once."""

SPARE_CONNECTIONS = 32
"""Connections beyond the cap, for probes and for tenants with few requests."""
MAX_CONNECTIONS = 10_000
"""A connection takes about 20 kB of memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionLimits:
    """The limits of all connections of this process."""

    most: int
    head_seconds: float
    body_seconds: float
    body_bytes_per_second: int
    idle_seconds: float
    write_seconds: float


def possible_connections(settings: Settings) -> int:
    """Return how many connections this process may have, by its settings and its file descriptors."""
    soft_descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(settings.max_connections or MAX_CONNECTIONS, connections_within(soft_descriptors))


def connection_limits(settings: Settings) -> ConnectionLimits:
    """Build the limits from the settings."""
    return ConnectionLimits(
        most=possible_connections(settings),
        head_seconds=settings.head_timeout_seconds,
        body_seconds=settings.body_timeout_seconds,
        body_bytes_per_second=settings.min_body_bytes_per_second,
        idle_seconds=settings.idle_timeout_seconds,
        write_seconds=settings.write_timeout_seconds,
    )


def connections_within(soft_descriptors: int) -> int:
    """Return how many connections fit this many descriptors, each with a provider call; at least one.

    The descriptors set aside for other uses also cover the spare connections.
    """
    return max(1, (soft_descriptors - BESIDE_CALLS) // PER_CALL_IN_WEB)


@dataclass(kw_only=True, slots=True)
class Progress:
    """Tracks how much of a body has come, and the deadline for more.

    Both the gap between reads and the average rate are bounded: the grace in seconds, plus one second for each
    `bytes_per_second` received.
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
        """When the client counts as silent or too slow."""
        by_average = self.began_at + self.seconds + self.came_bytes / self.bytes_per_second
        return min(self.last_at + self.seconds, by_average)
