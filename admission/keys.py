"""Names every key in Redis, under one hash tag so that a script can touch all on a cluster.

Invariant: scripts build no key names; they receive them through KEYS.
"""

from functools import lru_cache
from urllib.parse import quote, unquote

from admission import tenants
from admission.state import LAYOUT
from schemas.admission import BudgetCounter
from schemas.ids import TenantId
from schemas.job import Target

TAG = "{penstock}"


@lru_cache(maxsize=16_384)
def _safe(part: str) -> str:
    return quote(part, safe="-._")


class Keys:
    """Key names; `namespace` separates installations and tests."""

    def __init__(self, namespace: str = "") -> None:
        self._root = f"{TAG}:{_safe(namespace)}:" if namespace else f"{TAG}:"
        self.epoch = f"{self._root}epoch"
        self.building = f"{self._root}epoch-building"
        self.targets = f"{self._root}targets"
        self.counters = f"{self._root}counters-by-end"
        self.suspense = f"{self._root}suspense"
        self.budget_events = f"{self._root}budget-events"

    def bucket(self, target: Target) -> str:
        """Packed state; its layout is part of the name."""
        return f"{self._root}bucket{LAYOUT}:{_safe(target.account)}:{_safe(target.model)}"

    def frozen_by(self, target: Target) -> str:
        """Reason of the freeze; outside the packed state, because its layout is part of the key."""
        return f"{self._root}frozen-by:{_safe(target.account)}:{_safe(target.model)}"

    def in_flight(self, target: Target) -> str:
        """Sorted set of stamps by expiry."""
        return f"{self._root}in-flight:{_safe(target.account)}:{_safe(target.model)}"

    def tenant_rates(self, tenant_id: TenantId) -> str:
        """Packed state of the tenant's share; its layout is part of the name."""
        return f"{self._root}tenant-rates{tenants.LAYOUT}:{_safe(tenant_id)}"

    def tenant_in_flight(self, tenant_id: TenantId) -> str:
        """Sorted set of the tenant's stamps by expiry."""
        return f"{self._root}tenant-in-flight:{_safe(tenant_id)}"

    def account(self, account: str) -> str:
        """Reason of the stop, while the account is stopped."""
        return f"{self._root}stopped:{_safe(account)}"

    def doubt(self, account: str) -> str:
        """Hash of jobs refused by this account: 1 counts towards a stop, 0 was counted."""
        return f"{self._root}doubt:{_safe(account)}"

    def counter(self, counter: BudgetCounter) -> str:
        """Hash: l limit (if pinned), s settled, r reserved, th thresholds passed."""
        return f"{self._root}budget:{_safe(counter.scope)}:{_safe(counter.window)}"

    def counter_named(self, name: str) -> tuple[str, str]:
        """Return scope and window of a key made by `counter`."""
        scope, _, window = name.removeprefix(f"{self._root}budget:").partition(":")
        return unquote(scope), unquote(window)
