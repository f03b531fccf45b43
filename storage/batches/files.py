"""Stores files in chunks of one megabyte. Readers see only complete files."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count

from schemas.ids import FileId, TenantId
from storage.database.listings import NEWEST_FIRST, ListedTable, page
from storage.database.mapping import read_as

CHUNK_BYTES = 1_000_000
LONGEST_UPLOAD_SECONDS = 24 * 3600.0
"""An older incomplete upload counts as aborted."""
PRUNED_PER_ROUND = 100

BEGIN = """
INSERT INTO files (id, tenant_id, filename, purpose, expires_at)
VALUES (:id, :tenant_id, :filename, :purpose, now() + make_interval(secs => CAST(:life_seconds AS float8)))
"""
"""`now()` is also the default of `created_at`, after which a file's life is counted."""
APPEND = "INSERT INTO file_chunks (file_id, seq, data) VALUES (:id, :seq, :data)"
COMPLETE = "UPDATE files SET bytes = :bytes, complete = true WHERE id = :id RETURNING *"
FIND = "SELECT * FROM files WHERE id = :id AND tenant_id = :tenant_id AND complete"
CHUNK = "SELECT data FROM file_chunks WHERE file_id = :id AND seq = :seq"
DELETE = (
    "DELETE FROM files WHERE id = :id AND (CAST(:tenant_id AS text) IS NULL OR tenant_id = :tenant_id) RETURNING id"
)
PRUNE = """
WITH ended AS (
    SELECT id FROM files WHERE expires_at < statement_timestamp()
    UNION ALL
    SELECT id FROM files
    WHERE NOT complete AND created_at < statement_timestamp() - make_interval(secs => :upload_seconds)
    LIMIT :most
)
DELETE FROM files f USING ended e WHERE f.id = e.id RETURNING f.id
"""
NEWEST = f"""
SELECT * FROM files
WHERE tenant_id = :tenant_id AND complete AND (CAST(:purpose AS text) IS NULL OR purpose = :purpose) {NEWEST_FIRST}
"""  # noqa: S608 - a constant
NEWEST_CURSOR = "SELECT created_at AS at FROM files WHERE id = :after AND tenant_id = :tenant_id"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """A file's metadata."""

    id: FileId
    tenant_id: TenantId
    filename: str
    purpose: str
    bytes: int
    created_at: datetime
    expires_at: datetime | None


class FileTable(ListedTable):
    """Files of all tenants."""

    async def write(
        self,
        file_id: FileId,
        tenant_id: TenantId,
        parts: AsyncIterator[bytes],
        *,
        filename: str,
        purpose: str,
        life_seconds: int | None = None,
    ) -> StoredFile:
        """Store a stream as a file, for ever if `life_seconds` is None. Readers see nothing of a stream that raises."""
        about = {"id": file_id, "tenant_id": tenant_id, "filename": filename, "purpose": purpose}
        await self._run_once(BEGIN, **about, life_seconds=life_seconds)
        try:
            size = await self._append_all(file_id, parts)
        except BaseException:
            await self.delete(file_id, tenant_id)
            raise
        [row] = await self._fetch_once(COMPLETE, id=file_id, bytes=size)
        return read_as(StoredFile, row)

    async def find(self, file_id: FileId, tenant_id: TenantId) -> StoredFile | None:
        """Read the metadata of a complete file of this tenant."""
        rows = await self._fetch_once(FIND, id=file_id, tenant_id=tenant_id)
        return read_as(StoredFile, rows[0]) if rows else None

    async def newest(
        self, tenant_id: TenantId, *, after: FileId | None = None, most: int = 100, purpose: str | None = None
    ) -> Sequence[StoredFile]:
        """List files, newest first. Raises NotFound for another tenant's cursor."""
        terms = {"tenant_id": tenant_id, "purpose": purpose}
        async with self._listings.transaction(tenant_id) as connection:
            rows = await page(connection, NEWEST, NEWEST_CURSOR, after=after, most=most, **terms)
        return [read_as(StoredFile, row) for row in rows]

    async def content(self, file_id: FileId) -> AsyncIterator[bytes]:
        """Read a file by chunks, each in its own transaction."""
        for seq in count():
            rows = await self._fetch_once(CHUNK, id=file_id, seq=seq)
            if not rows:
                return
            yield bytes(rows[0]["data"])

    async def lines(self, file_id: FileId, *, most_bytes: int = CHUNK_BYTES) -> AsyncIterator[bytes]:
        """Read lines without line ends, with one chunk and one line in memory.

        A line longer than `most_bytes` is cut one byte above that limit.
        """
        rest = b""
        async for chunk in self.content(file_id):
            start = 0
            while (end := chunk.find(b"\n", start)) >= 0:
                yield rest + chunk[start : min(end, start + most_bytes + 1 - len(rest))]
                rest, start = b"", end + 1
            rest += chunk[start : start + most_bytes + 1 - len(rest)]
        if rest:
            yield rest

    async def delete(self, file_id: FileId, tenant_id: TenantId | None) -> bool:
        """Delete a file; False where there is none."""
        return bool(await self._fetch_once(DELETE, id=file_id, tenant_id=tenant_id))

    async def prune(self) -> int:
        """Delete expired files and aborted uploads; returns how many."""
        return len(await self._fetch_once(PRUNE, upload_seconds=LONGEST_UPLOAD_SECONDS, most=PRUNED_PER_ROUND))

    async def _append_all(self, file_id: FileId, parts: AsyncIterator[bytes]) -> int:
        size, seq, waiting = 0, 0, bytearray()
        async for part in parts:
            waiting += part
            size += len(part)
            while len(waiting) >= CHUNK_BYTES:
                await self._append(file_id, seq, bytes(waiting[:CHUNK_BYTES]))
                del waiting[:CHUNK_BYTES]
                seq += 1
        if waiting:
            await self._append(file_id, seq, bytes(waiting))
        return size

    async def _append(self, file_id: FileId, seq: int, data: bytes) -> None:
        await self._run_once(APPEND, id=file_id, seq=seq, data=data)
