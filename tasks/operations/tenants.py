"""Lists and changes the limits of tenants for operators."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from admission.gate import Gate
from config.tenants import TenantTable
from schemas.errors import InvalidRequest
from schemas.ids import TenantId
from schemas.jsons import JsonObject
from storage.connect import Storage
from tasks.configuration.effective import Configuration
from tasks.tenancy.shares import LIMITS, TENANT_OF

MOST_OPEN_JOBS = 100_000
"""Bounds the count of open jobs without a quota."""


@dataclass(slots=True)
class Tenants:
    """Lists and changes shares."""

    storage: Storage
    configuration: Configuration
    gate: Gate

    async def all(self) -> Sequence[JsonObject]:
        """List tenants by name. Raises RedisUnavailable and PostgresUnavailable."""
        await self.configuration.refresh()
        return [await self._row(TenantId(name)) for name in sorted(await self.storage.keys.tenants())]

    async def set_share(self, name: str, limits: JsonObject) -> JsonObject:
        """Replace the limits of a tenant, or under `*` of all without their own.

        They hold until the file changes them. Raises InvalidRequest.
        """
        try:
            table = TenantTable.model_validate(limits)
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            named = str(wrong["loc"][0]) if wrong["loc"] else None
            raise InvalidRequest(f"{named}: {wrong['msg'].removeprefix('Value error, ')}", param=named) from None
        row = await self.storage.config.set(TENANT_OF + name, table.model_dump(mode="json", exclude_none=True))
        return {"id": name, "object": "tenant_limits", "version": row.version, "limits": row.value}

    async def _row(self, tenant_id: TenantId) -> JsonObject:
        """Calls in flight are None without a limit."""
        share = self.configuration.share(tenant_id)
        [used] = await self.gate.share_snapshots([tenant_id]) if share.limits_calls else [None]
        limits: JsonObject = {name: getattr(share, name) for name in LIMITS}
        return {
            "id": tenant_id,
            "object": "tenant",
            "limits": limits | {"lanes": sorted(share.lanes, key=lambda lane: lane.rank)},
            "used": {
                "calls_in_flight": None if used is None else used.in_flight,
                "open_jobs": await self.storage.usage.open_jobs(tenant_id, share.open_jobs or MOST_OPEN_JOBS),
                "waiting_batches": await self.storage.usage.waiting_batches(tenant_id),
                "bytes_stored": await self.storage.usage.bytes_stored(tenant_id),
            },
        }
