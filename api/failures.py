"""Counts wrong API keys by the address that they come from, so that guessing is slow and costs no look-ups."""

import ipaddress

FAILURES_PER_SECOND = 20
"""More than a broken client makes that retries, and too few to load the database (310 a second made others wait)."""
FAILURE_BURST = 20
MOST_ADDRESSES = 10_000
"""About 2 MB; beyond, the address that failed first is forgotten."""
IPV6_NETWORK_BITS = 64
"""What one customer of a provider has to choose addresses from."""


class Failures:
    """A leaking count for each address. An address behind a proxy is the proxy's, unless it says whose it is."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def too_many(self, address: str, now: float) -> bool:
        """Whether this address has to wait before it may try another key."""
        return self._count(network_of(address), now) >= FAILURE_BURST

    def add(self, address: str, now: float) -> None:
        """A wrong key came from this address."""
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
    """The address, or of an IPv6 address the network that it is chosen from."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.IPv6Network((address.partition("%")[0], IPV6_NETWORK_BITS), strict=False))
    except ValueError:
        return address
