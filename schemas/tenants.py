"""The limits of one tenant; None is no limit."""

from dataclasses import dataclass

from schemas.ids import TenantId
from schemas.lanes import Lane

EVERY_LANE = frozenset(Lane)


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
        return (self.calls_in_flight, self.requests_per_minute, self.tokens_per_minute) != (None, None, None)


def no_limits(tenant_id: TenantId) -> TenantShare:
    """Return a share without limits."""
    return TenantShare(tenant_id=tenant_id)
