"""Counts each tenant's open requests in this process."""

from collections import Counter
from typing import Any

from schemas.errors import QuotaReached
from schemas.ids import TenantId
from schemas.tenants import TenantShare

COUNTED_FOR = "counted_for"
"""Key in the request's state: the tenant that it counts for."""


RESERVED_SHARE = 0.1
"""Part of all requests that is reserved for tenants with few open ones."""

FEW_REQUESTS = 32
"""Up to this many open requests are few: a client's usual connection pool."""


class OpenRequests:
    """Bounds open requests by tenant, below `most` in this process.

    A reserve keeps connections for other tenants beside any number of slow requests.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._reserved = round(most * RESERVED_SHARE)
        self._open = Counter[TenantId]()

    def open(self, share: TenantShare, scope: Any) -> None:  # noqa: ANN401 - ASGI's
        """Count a request until `close`. Raises QuotaReached."""
        tenant_id, most = share.tenant_id, share.connections
        if most is not None and self._open[tenant_id] >= most:
            raise QuotaReached(
                f"The quota connections of this tenant is {most}, and {self._open[tenant_id]} are in use.",
                param="connections",
            )
        free = self._most - self._open.total()
        if free <= self._reserved and self._open[tenant_id] >= FEW_REQUESTS:
            raise QuotaReached(
                f"This process can take no more requests of this tenant, which has {self._open[tenant_id]} open.",
                param="connections",
            )
        self._open[tenant_id] += 1
        scope.setdefault("state", {})[COUNTED_FOR] = tenant_id

    def close(self, scope: Any) -> None:  # noqa: ANN401 - ASGI's
        """Stop counting a request. Does nothing if it was not counted."""
        tenant_id = scope.get("state", {}).pop(COUNTED_FOR, None)
        if tenant_id is not None:
            self._open[tenant_id] -= 1
            if not self._open[tenant_id]:
                del self._open[tenant_id]
