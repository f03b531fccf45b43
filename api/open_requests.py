"""Counts each tenant's open requests in this process, from authentication to the end of the response."""

from collections import Counter
from typing import Any

from schemas.errors import QuotaReached
from schemas.ids import TenantId
from schemas.tenants import TenantShare

COUNTED_FOR = "counted_for"
"""Key in the request's state of the tenant that it is counted for."""


RESERVED_SHARE = 0.1
"""Part of all requests that is reserved for tenants with few open ones, as with concurrent calls."""

FEW_REQUESTS = 32
"""A tenant with at most this many open requests has few: a client's usual connection pool."""


class OpenRequests:
    """Counts open requests by tenant, and refuses those beyond the share.

    `most` is the maximum of the process. One tenant alone may have all but a reserve, so that other tenants find a
    connection beside any number of slow requests.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._reserved = round(most * RESERVED_SHARE)
        self._open = Counter[TenantId]()

    def open(self, share: TenantShare, scope: Any) -> None:  # noqa: ANN401 - ASGI's
        """Count a request until `close` is called with its scope. Raises QuotaReached."""
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
        """Stop counting a request whose response has ended. Does nothing for one that was never counted."""
        tenant_id = scope.get("state", {}).pop(COUNTED_FOR, None)
        if tenant_id is not None:
            self._open[tenant_id] -= 1
            if not self._open[tenant_id]:
                del self._open[tenant_id]
