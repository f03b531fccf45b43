"""Measures each tenant's open jobs, waiting batches and stored bytes.

A request reads at most its quota, and bodies of recent jobs only: a duty adds up the others in slices, anew every hour
because deleted jobs are not subtracted.
"""

from schemas.ids import TenantId
from storage.database.statements import PostgresTable, fetch, run
from storage.queue.flows import FLOW, UNPUBLISHED, flows

SLICE_JOBS = 5_000
"""Jobs per slice: some tens of milliseconds."""

SETTLE_SECONDS = 60.0
"""Age at which a job is counted, when most have their result."""

ANEW_SECONDS = 3_600.0
"""How long bytes of deleted jobs may count."""

OPEN_JOBS = f"""
WITH RECURSIVE {flows("flows", UNPUBLISHED, FLOW)}, open AS (
    (SELECT 1 FROM flows f CROSS JOIN LATERAL (
        SELECT 1 FROM jobs j
        WHERE j.state = 'queued' AND j.dispatched_at IS NULL AND j.lane = f.lane AND j.model = f.model
          AND j.tenant_id = :tenant_id
        LIMIT :most
    ) unpublished LIMIT :most)
    UNION ALL
    (SELECT 1 FROM jobs WHERE state = 'queued' AND dispatched_at IS NOT NULL AND tenant_id = :tenant_id LIMIT :most)
    UNION ALL
    (SELECT 1 FROM jobs WHERE lease_until IS NOT NULL AND tenant_id = :tenant_id AND state = 'running' LIMIT :most)
    UNION ALL
    (SELECT 1 FROM jobs WHERE state = 'waiting' AND tenant_id = :tenant_id LIMIT :most)
)
SELECT count(*) AS used FROM (SELECT 1 FROM open LIMIT :most) counted
"""  # noqa: S608 - constants

WAITING_BATCHES = "SELECT count(*) AS used FROM batches WHERE status = 'validating' AND tenant_id = :tenant_id"

BYTES = """
SELECT (
    COALESCE((SELECT sum(bytes) FROM files WHERE tenant_id = :tenant_id AND complete), 0)
    + COALESCE((SELECT sum(octet_length(c.data)) FROM files f JOIN file_chunks c ON c.file_id = f.id
                WHERE f.tenant_id = :tenant_id AND NOT f.complete), 0)
    + COALESCE((SELECT counted_bytes FROM tenant_bytes WHERE tenant_id = :tenant_id), 0)
    + COALESCE((SELECT sum(pg_column_size(b.body)) FROM (
        SELECT id FROM jobs WHERE tenant_id = :tenant_id AND created_at > GREATEST(
            (SELECT counted_to FROM tenant_bytes WHERE tenant_id = :tenant_id),
            clock_timestamp() - make_interval(secs => :recent_seconds))
        ORDER BY created_at LIMIT :most) recent JOIN job_bodies b ON b.job_id = recent.id), 0)
)::bigint AS used
"""

BEGIN_COUNT = """
INSERT INTO tenant_bytes (tenant_id) SELECT id FROM tenants WHERE id = :tenant_id ON CONFLICT (tenant_id) DO NOTHING
"""
COUNT = """
SELECT *, clock_timestamp() - make_interval(secs => :settle_seconds) AS settled_at,
    pass_began_at < clock_timestamp() - make_interval(secs => :anew_seconds) AS is_due
FROM tenant_bytes WHERE tenant_id = :tenant_id FOR UPDATE
"""
SLICE = """
WITH slice AS MATERIALIZED (
    SELECT id, created_at FROM jobs WHERE tenant_id = :tenant_id AND created_at > :after AND created_at <= :until
    ORDER BY created_at FETCH FIRST :most ROWS WITH TIES
)
SELECT count(*) AS jobs, max(s.created_at) AS last_at, COALESCE(sum(
    COALESCE(pg_column_size(b.body), 0) + COALESCE(pg_column_size(r.reply), 0) + COALESCE(pg_column_size(r.output), 0)
), 0)::bigint AS bytes
FROM slice s LEFT JOIN job_bodies b ON b.job_id = s.id LEFT JOIN job_results r ON r.job_id = s.id
"""
ADD = """
UPDATE tenant_bytes SET counted_bytes = counted_bytes + :bytes, counted_to = COALESCE(:last_at, counted_to)
WHERE tenant_id = :tenant_id
"""
ADD_ANEW = """
UPDATE tenant_bytes SET pass_bytes = pass_bytes + :bytes, pass_at = COALESCE(:last_at, pass_at)
WHERE tenant_id = :tenant_id
"""
TAKE_OVER = """
UPDATE tenant_bytes SET counted_bytes = pass_bytes, pass_bytes = 0, pass_at = 'epoch',
    pass_began_at = clock_timestamp()
WHERE tenant_id = :tenant_id
"""


class UsageTable(PostgresTable):
    """Measures the current usage of tenants."""

    async def open_jobs(self, tenant_id: TenantId, most: int) -> int:
        """Count non-terminal jobs, up to `most`."""
        return await self._used(OPEN_JOBS, tenant_id=tenant_id, most=most)

    async def waiting_batches(self, tenant_id: TenantId) -> int:
        """Count batches with unread files."""
        return await self._used(WAITING_BATCHES, tenant_id=tenant_id)

    async def bytes_stored(self, tenant_id: TenantId) -> int:
        """Sum bytes of files, uploads and jobs.

        Jobs count as last added up, plus the bodies of later ones.
        """
        recent = {"recent_seconds": 2 * SETTLE_SECONDS, "most": SLICE_JOBS}
        return await self._used(BYTES, tenant_id=tenant_id, **recent)

    async def count_slice(
        self,
        tenant_id: TenantId,
        most: int = SLICE_JOBS,
        *,
        settle_seconds: float = SETTLE_SECONDS,
        anew_seconds: float = ANEW_SECONDS,
    ) -> int:
        """Add up the next jobs, new ones first; after `most` or more, others may be left.

        With room left it advances a due recount, whose sum replaces the old one.
        """
        of_tenant = {"tenant_id": tenant_id}
        async with self._transaction() as connection:
            await run(connection, BEGIN_COUNT, of_tenant)
            terms = {"settle_seconds": settle_seconds, "anew_seconds": anew_seconds}
            [count] = await fetch(connection, COUNT, of_tenant | terms)
            bounds = {"after": count["counted_to"], "until": count["settled_at"], "most": most}
            [new] = await fetch(connection, SLICE, of_tenant | bounds)
            await run(connection, ADD, of_tenant | {"bytes": new["bytes"], "last_at": new["last_at"]})
            if new["jobs"] >= most or not count["is_due"]:
                return int(new["jobs"])
            bounds = {"after": count["pass_at"], "until": new["last_at"] or count["counted_to"], "most": most}
            [old] = await fetch(connection, SLICE, of_tenant | bounds)
            await run(connection, ADD_ANEW, of_tenant | {"bytes": old["bytes"], "last_at": old["last_at"]})
            if old["jobs"] < most:
                await run(connection, TAKE_OVER, of_tenant)
            return int(new["jobs"] + old["jobs"])

    async def _used(self, query: str, **parameters: object) -> int:
        [row] = await self._fetch_once(query, **parameters)
        return int(row["used"])
