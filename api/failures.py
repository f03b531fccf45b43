"""Counts wrong API keys by source address, which slows guessing."""

import ipaddress

FAILURES_PER_SECOND = 20
"""Above a broken client's retries; 310 a second delayed other callers."""
FAILURE_BURST = 20
MOST_ADDRESSES = 10_000
"""About 2 MB. Beyond it, the address with the oldest failure is dropped."""
IPV6_NETWORK_BITS = 64
"""A subscriber can choose the other bits freely."""


class Failures:
    """A leaking count per address; clients behind a proxy share one."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def too_many(self, address: str, now: float) -> bool:
        """Whether this address must wait before it tries another key."""
        return self._count(network_of(address), now) >= FAILURE_BURST

    def add(self, address: str, now: float) -> None:
        """Count a wrong key."""
        network = network_of(address)
        count = self._count(network, now) + 1
        self._counts.pop(network, None)
        if len(self._counts) >= MOST_ADDRESSES:
            del self._counts[next(iter(self._counts))]
        self._counts[network] = (count, now)

    def _count(self, network: str, now: float) -> float:
        count, at = self._counts.get(network, (0.0, now))
        return max(0.0, count - (now - at) * FAILURES_PER_SECOND)


def network_of(address: str) -> str:
    """Return an IPv4 address unchanged, or the /64 network of an IPv6 address."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.IPv6Network((address.partition("%")[0], IPV6_NETWORK_BITS), strict=False))
    except ValueError:
        return address
