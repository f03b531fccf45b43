"""Counts the memory that requests take, and refuses requests beyond the budget of the process.

A tenant may take at most half of the budget, and at most half of what other tenants left. So no tenant can cause
refusals for others. Operators may take all of it.
"""

from collections import Counter

from api.errors import Busy
from schemas.ids import TenantId
from storage.dead_letters.reads import MAX_LETTER_BYTES

BODY_WEIGHT = 2
"""A body and the strings parsed from it are in memory at the same time."""
VALUE_BYTES = 128
"""Memory of a parsed value beyond its text: an empty object or list takes 64 to 88, one with an entry about 230."""
DOWNLOAD_BYTES = 2_000_000
"""Per download: a chunk of a megabyte, once from the database and once on its way out."""
UPLOAD_BYTES = 2_000_000
"""Per upload: a chunk being gathered, and the same on its way to the database."""
EXPORT_BYTES = 3 * MAX_LETTER_BYTES
"""Per export of dead letters: the text of one from the database, its values, and its line."""


class MemoryBudget:
    """Memory that all requests of the process take together, and those of each tenant."""

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
        """Count bytes as taken; a negative size gives them back."""
        self._taken_bytes += size
        if tenant_id is None:
            return
        self._by_tenant[tenant_id] += size
        if not self._by_tenant[tenant_id]:
            del self._by_tenant[tenant_id]


class MemoryShare:
    """Memory that one request takes, until it is answered."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._bytes = 0
        self._tenant_id: TenantId | None = None

    def count_for(self, tenant_id: TenantId) -> None:
        """From now on, count what the request takes for this tenant as well as for the process."""
        self._budget.change(-self._bytes, self._tenant_id)
        self._tenant_id = tenant_id
        self._budget.change(self._bytes, tenant_id)

    def take(self, size: int) -> None:
        """Take more. Raises Busy, and takes nothing, where the budget or the tenant's part of it is exhausted."""
        self.check(size)
        self._budget.change(size, self._tenant_id)
        self._bytes += size

    def take_buffers(self, size: int) -> None:
        """Take a stream's buffers, or all that the tenant may take where that is less. Raises Busy.

        So a small budget serves streams one after another instead of refusing them for ever.
        """
        self.take(min(size, self._budget.most_bytes // (1 if self._tenant_id is None else 2)))

    def check(self, size: int) -> None:
        """Raise Busy where this size could not be taken now."""
        self._budget.check(size, self._tenant_id)

    def release(self) -> None:
        """Give everything back."""
        self._budget.change(-self._bytes, self._tenant_id)
        self._bytes = 0
