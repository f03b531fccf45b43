"""The limits of one tenant; None is no limit."""

from dataclasses import dataclass

from schemas.ids import TenantId
from schemas.lanes import Lane

EVERY_LANE = frozenset(Lane)
CALL_LIMITS = ("calls_in_flight", "requests_per_minute", "tokens_per_minute")
"""The limits that the gate counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TenantShare:
    """Limits over all targets, keys and processes; `connections` is per web process."""

    tenant_id: TenantId
    calls_in_flight: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    open_jobs: int | None = None
    waiting_batches: int | None = None
    bytes_stored: int | None = None
    connections: int | None = None
    lanes: frozenset[Lane] = EVERY_LANE

    @property
    def limits_calls(self) -> bool:
        """Whether the gate must count this tenant's calls."""
        return any(getattr(self, limit) is not None for limit in CALL_LIMITS)


def no_limits(tenant_id: TenantId) -> TenantShare:
    """Return a share without limits."""
    return TenantShare(tenant_id=tenant_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunAhead:
    """The published, unclaimed jobs of a tenant that has more to publish, and their tokens."""

    tenant_id: TenantId
    jobs: int
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ShareCapacity:
    """How much a tenant's share lets dispatch publish now; None is no limit."""

    jobs: int | None = None
    tokens: int | None = None
