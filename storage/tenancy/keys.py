"""Stores API keys as digests, so that a stolen database holds no key."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from schemas.ids import KeyId, TenantId
from storage.database.mapping import read_as
from storage.database.statements import PostgresTable

SHOWN_CHARACTERS = 10

CREATE = """
WITH tenant AS (INSERT INTO tenants (id) VALUES (:tenant_id) ON CONFLICT DO NOTHING)
INSERT INTO api_keys (id, tenant_id, digest, prefix, scopes)
VALUES (:id, :tenant_id, :digest, :prefix, CAST(:scopes AS text[]))
ON CONFLICT (digest) DO UPDATE SET revoked_at = NULL
RETURNING *
"""
FIND = "SELECT * FROM api_keys WHERE digest = :digest AND revoked_at IS NULL"
LIST = "SELECT * FROM api_keys ORDER BY created_at, id"
REVOKE = "UPDATE api_keys SET revoked_at = clock_timestamp() WHERE id = :id AND revoked_at IS NULL RETURNING id"
TENANTS = "SELECT id FROM tenants"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredKey:
    """Holds a key's metadata; only `prefix` of the key can be shown."""

    id: KeyId
    tenant_id: TenantId
    prefix: str
    scopes: frozenset[str]
    created_at: datetime
    revoked_at: datetime | None


class KeyTable(PostgresTable):
    """Stores the keys of all tenants."""

    async def create(self, key_id: KeyId, secret: str, tenant_id: TenantId, scopes: Sequence[str]) -> StoredKey:
        """Store a key, and its tenant if new. Safe to call twice."""
        rows = await self._fetch_once(
            CREATE,
            id=key_id,
            tenant_id=tenant_id,
            digest=_digest(secret),
            prefix=secret[:SHOWN_CHARACTERS],
            scopes=list(scopes),
        )
        return read_as(StoredKey, rows[0])

    async def find(self, secret: str) -> StoredKey | None:
        """Find the key with this secret, unless revoked."""
        rows = await self._fetch_once(FIND, digest=_digest(secret))
        return read_as(StoredKey, rows[0]) if rows else None

    async def all(self) -> Sequence[StoredKey]:
        """List all keys, also revoked ones, oldest first."""
        return [read_as(StoredKey, row) for row in await self._fetch_once(LIST)]

    async def revoke(self, key_id: KeyId) -> bool:
        """Revoke a key; False where there is none."""
        return bool(await self._fetch_once(REVOKE, id=key_id))

    async def tenants(self) -> frozenset[str]:
        """List all tenants."""
        return frozenset(row["id"] for row in await self._fetch_once(TENANTS))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
