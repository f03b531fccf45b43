"""Counts the requests that each tenant has open in this process, from its key being known to the end of the answer."""

from collections import Counter
from typing import Any

from schemas.errors import QuotaReached
from schemas.ids import TenantId
from schemas.tenants import TenantShare

COUNTED_FOR = "counted_for"
"""Where in the state of a request stands the tenant that it is counted for."""


class OpenRequests:
    """Counts requests by tenant, and refuses those beyond the share."""

    def __init__(self) -> None:
        self._open = Counter[TenantId]()

    def open(self, share: TenantShare, scope: Any) -> None:  # noqa: ANN401 - ASGI's
        """Count a request until `close` is called with its scope. Raises QuotaReached."""
        tenant_id, most = share.tenant_id, share.connections
        if most is not None and self._open[tenant_id] >= most:
            raise QuotaReached(
                f"The quota connections of this tenant is {most}, and {self._open[tenant_id]} are in use.",
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
