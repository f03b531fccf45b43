"""Opens the gate and the ledger over one Redis connection pool."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from admission.gate import DEFAULT_LIFETIME_SECONDS, Gate
from admission.keys import Keys
from admission.ledger import Ledger
from admission.wire import Wire


@dataclass(frozen=True, kw_only=True, slots=True)
class Admission:
    """The open connections."""

    wire: Wire
    keys: Keys
    gate: Gate
    ledger: Ledger


@asynccontextmanager
async def connected(
    redis_url: str,
    *,
    namespace: str = "",
    lifetime_seconds: float = DEFAULT_LIFETIME_SECONDS,
    clock_us: Callable[[], int] | None = None,
) -> AsyncIterator[Admission]:
    """Open admission. It connects at the first call, so Redis may be down."""
    async with Wire(redis_url) as wire:
        keys = Keys(namespace)
        gate = Gate(wire, keys, lifetime_seconds=lifetime_seconds, clock_us=clock_us)
        ledger = Ledger(wire, keys, gate, lifetime_seconds=lifetime_seconds)
        yield Admission(wire=wire, keys=keys, gate=gate, ledger=ledger)
