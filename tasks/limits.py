"""Keeping Redis's copy of the limits: what is in force in Postgres is written to each bucket once per version.

The gate refuses an older version by itself, so that two leaders, or one that was paused, do no harm.
"""

from typing import TYPE_CHECKING, Protocol

from admission.limits import TargetLimits
from tasks.configuration import Configuration

if TYPE_CHECKING:
    from schemas.job import Target


class ConfigurableGate(Protocol):
    """Where limits are enforced."""

    async def configure(self, limits: TargetLimits, version: int) -> bool:
        """Apply limits; False when a newer version is in force. Raises RedisUnavailable."""


class LimitKeeper:
    """Remembers what it has written. A wiped Redis is written anew by the ledger's rebuild."""

    def __init__(self, gate: ConfigurableGate, configuration: Configuration) -> None:
        self._gate = gate
        self._configuration = configuration
        self._written: dict[Target, int] = {}

    async def apply(self) -> int:
        """Write what has changed; returns how many targets. Raises RedisUnavailable and PostgresUnavailable."""
        effective = await self._configuration.refresh()
        changed = [each for each in effective.limits if self._written.get(each[0].target) != each[1]]
        for limits, version in changed:
            await self._gate.configure(limits, version)
            self._written[limits.target] = version
        return len(changed)
