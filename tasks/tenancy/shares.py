"""Computes the share of each tenant. Pure.

Each limit comes from the tenant's table, else from that of every tenant, else from the built-in values.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from config.tenants import EVERY_TENANT, UNLIMITED, WAITING_BATCHES, TenantTable
from schemas.ids import TenantId
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.tenants import CALL_LIMITS, TenantShare

TENANT_OF = "tenant/"
LIMITS = tuple(limit.name for limit in fields(TenantShare) if limit.name not in {"tenant_id", "lanes"})
BUILT_IN: JsonObject = {"waiting_batches": WAITING_BATCHES}
MOST_REMEMBERED = 10_000
"""Tenants with kept shares; beyond this, all are built again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """Holds the shares of all tenants."""

    tables: Mapping[str, JsonObject] = field(default_factory=dict)
    limits_calls: bool = False
    """Whether any table limits calls."""
    _built: dict[TenantId, TenantShare] = field(default_factory=dict)

    def of(self, tenant_id: TenantId) -> TenantShare:
        """Return the share of this tenant."""
        share = self._built.get(tenant_id)
        if share is None:
            if len(self._built) >= MOST_REMEMBERED:
                self._built.clear()
            share = self._built[tenant_id] = self._share(tenant_id)
        return share

    def _share(self, tenant_id: TenantId) -> TenantShare:
        values = BUILT_IN | self.tables.get(EVERY_TENANT, {}) | self.tables.get(tenant_id, {})
        limits: dict[str, Any] = {
            name: value for name, value in values.items() if name in LIMITS and value != UNLIMITED
        }
        if values.get("lanes"):
            limits["lanes"] = frozenset(map(Lane, values["lanes"]))
        return TenantShare(tenant_id=tenant_id, **limits)


def share_values(tables: Mapping[str, TenantTable]) -> dict[str, JsonObject]:
    """Return the file's tables as effective values."""
    return {TENANT_OF + name: table.model_dump(mode="json", exclude_none=True) for name, table in tables.items()}


def shares_from(values: Mapping[str, JsonObject | None]) -> Shares:
    """Read shares from effective values; a removed table is null."""
    tables = {name.removeprefix(TENANT_OF): value for name, value in values.items() if name.startswith(TENANT_OF)}
    kept = {name: value for name, value in tables.items() if value is not None}
    limits_calls = any(value.get(name) not in {None, UNLIMITED} for value in kept.values() for name in CALL_LIMITS)
    return Shares(tables=kept, limits_calls=limits_calls)
