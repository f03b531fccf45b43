"""Counts the requests that each tenant has open in this process, from its key being known to the end of the answer."""

from collections import Counter
from typing import Any

from schemas.errors import QuotaReached
from schemas.ids import TenantId
from schemas.tenants import TenantShare

COUNTED_FOR = "counted_for"
"""Where in the state of a request stands the tenant that it is counted for."""


RESERVED_SHARE = 0.1
"""Part of all requests that only tenants with few of them may have open, as with places for calls."""

FEW_REQUESTS = 32
"""So many open requests of a tenant are few: a client's usual pool of connections."""


class OpenRequests:
    """Counts requests by tenant, and refuses those beyond the share.

    `most` is how many the process may have at once: one tenant alone may have all but a reserve, so that others find a
    connection beside any number of slow ones.
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
        """Count no more a request whose answer has ended; one that was never counted is nothing."""
        tenant_id = scope.get("state", {}).pop(COUNTED_FOR, None)
        if tenant_id is not None:
            self._open[tenant_id] -= 1
            if not self._open[tenant_id]:
                del self._open[tenant_id]
