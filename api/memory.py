"""Bounds the memory that requests take in this process.

A tenant may take at most half of the budget, and half of what other tenants left. Operators may take all of it.
"""

from collections import Counter

from api.errors import Busy
from schemas.ids import TenantId
from storage.dead_letters.reads import MAX_LETTER_BYTES

BODY_WEIGHT = 2
"""A body and its parsed strings are in memory at the same time."""
VALUE_BYTES = 128
"""Memory per parsed value beyond its text, from 64 for an empty object to 230 for one with an entry."""
DOWNLOAD_BYTES = 2_000_000
"""A chunk of a megabyte, read and written at the same time."""
UPLOAD_BYTES = 2_000_000
"""A chunk of a megabyte, gathered and stored at the same time."""
EXPORT_BYTES = 3 * MAX_LETTER_BYTES
"""A dead letter's text, its values and its line."""


class MemoryBudget:
    """Memory taken by all requests, in total and per tenant."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._taken_bytes = 0
        self._by_tenant = Counter[TenantId]()

    @property
    def free_bytes(self) -> int:
        """Bytes that no request has taken."""
        return self.most_bytes - self._taken_bytes

    def check(self, size: int, tenant_id: TenantId | None) -> None:
        """Raise Busy where this size could not be taken now."""
        after = self.free_bytes - size
        least_left = 0 if tenant_id is None else self._by_tenant[tenant_id] + size
        if after < least_left:
            raise Busy

    def change(self, size: int, tenant_id: TenantId | None) -> None:
        """Count bytes as taken; a negative size releases them."""
        self._taken_bytes += size
        if tenant_id is None:
            return
        self._by_tenant[tenant_id] += size
        if not self._by_tenant[tenant_id]:
            del self._by_tenant[tenant_id]


class MemoryShare:
    """Memory of one request until its response."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._bytes = 0
        self._tenant_id: TenantId | None = None

    def count_for(self, tenant_id: TenantId) -> None:
        """Count the request's memory for this tenant too."""
        self._budget.change(-self._bytes, self._tenant_id)
        self._tenant_id = tenant_id
        self._budget.change(self._bytes, tenant_id)

    def take(self, size: int) -> None:
        """Take more. Raises Busy and takes nothing beyond the limits."""
        self.check(size)
        self._budget.change(size, self._tenant_id)
        self._bytes += size

    def take_buffers(self, size: int) -> None:
        """Take a stream's buffers, at most all that the tenant may take. Raises Busy."""
        self.take(min(size, self._budget.most_bytes // (1 if self._tenant_id is None else 2)))

    def check(self, size: int) -> None:
        """Raise Busy where this size could not be taken now."""
        self._budget.check(size, self._tenant_id)

    def release(self) -> None:
        """Release all of it."""
        self._budget.change(-self._bytes, self._tenant_id)
        self._bytes = 0
