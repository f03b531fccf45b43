"""Counts wrong API keys by source address, so that guessing is slow and costs no look-ups."""

import ipaddress

FAILURES_PER_SECOND = 20
"""More than a broken client's retries, and too few to load the database (310 a second delayed other callers)."""
FAILURE_BURST = 20
MOST_ADDRESSES = 10_000
"""About 2 MB. Beyond it, the address whose last failure is oldest is forgotten."""
IPV6_NETWORK_BITS = 64
"""The part of an IPv6 address that one subscriber cannot choose freely."""


class Failures:
    """A leaking count per address. Clients of a proxy share one, unless the proxy forwards theirs."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def too_many(self, address: str, now: float) -> bool:
        """Whether this address must wait before it may try another key."""
        return self._count(network_of(address), now) >= FAILURE_BURST

    def add(self, address: str, now: float) -> None:
        """Count a wrong key from this address."""
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
    """Return an IPv4 address as it is, and the /64 network of an IPv6 address."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.IPv6Network((address.partition("%")[0], IPV6_NETWORK_BITS), strict=False))
    except ValueError:
        return address
