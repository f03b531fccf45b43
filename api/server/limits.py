"""What one connection may cost, and how many there may be."""

import resource
from dataclasses import dataclass

from config.descriptors import BESIDE_CALLS, PER_CALL_IN_WEB
from config.settings import Settings

MAX_FRAMING_BYTES = 64_000
"""Of one request, beyond its body and as much again: heads, chunk sizes, trailers. The largest heads of SDKs and
proxies have a few thousand bytes."""

MAX_HEADERS = 128
"""Heads and trailers of one request; SDKs and proxies send about 20."""

FREE_PIECES = 1_000
MIN_AVERAGE_PIECE_BYTES = 16
"""A body may come in this many pieces whatever their size; beyond, they must have this size on average. A piece costs
about a microsecond, so that four connections full of one-byte chunks kept the process busy with nothing else."""

MAX_PIPELINED_REQUESTS = 16
"""Requests that may wait behind one that is being answered, of which hardly any client sends more than one."""

LINGER_SECONDS = 2.0
"""After an answer that came before its request was whole, the rest is thrown away for this long, because a reset
connection takes the answer with it."""
LINGER_BYTES = 8_000_000
"""Twice the largest body of a single request."""

UNSENT_BYTES = 128_000
"""What the kernel buffers of a connection beyond what its client can take: a slow client shows at once."""

SPARE_CONNECTIONS = 32
"""Beyond the cap, for probes, and for tenants with few requests."""
MAX_CONNECTIONS = 10_000
"""About 20 kB of memory each."""


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
    """How many connections this process may have: what the setting names, and its descriptors leave."""
    soft_descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(settings.max_connections or MAX_CONNECTIONS, connections_within(soft_descriptors))


def connection_limits(settings: Settings) -> ConnectionLimits:
    """The limits that the settings name."""
    return ConnectionLimits(
        most=possible_connections(settings),
        head_seconds=settings.head_timeout_seconds,
        body_seconds=settings.body_timeout_seconds,
        body_bytes_per_second=settings.min_body_bytes_per_second,
        idle_seconds=settings.idle_timeout_seconds,
        write_seconds=settings.write_timeout_seconds,
    )


def connections_within(soft_descriptors: int) -> int:
    """How many connections this many descriptors serve, each with a call to a provider; at least one.

    What a process needs beside its calls holds the spare connections too.
    """
    return max(1, (soft_descriptors - BESIDE_CALLS) // PER_CALL_IN_WEB)


@dataclass(kw_only=True, slots=True)
class Progress:
    """What has come of a body, and until when more of it must come.

    A gap is bounded, and so is the average: seconds of grace, and one more for each `bytes_per_second` that came.
    """

    began_at: float
    last_at: float
    seconds: float
    bytes_per_second: int
    came_bytes: int = 0

    def add(self, size: int, now: float) -> None:
        """More of it came."""
        self.came_bytes += size
        self.last_at = now

    @property
    def due_at(self) -> float:
        """When the client has been silent or slow for too long."""
        by_average = self.began_at + self.seconds + self.came_bytes / self.bytes_per_second
        return min(self.last_at + self.seconds, by_average)
