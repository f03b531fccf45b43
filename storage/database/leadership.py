"""Elects a leader by compare-and-set on a lease row, by Postgres's clock."""

from sqlalchemy.ext.asyncio import AsyncEngine

from storage.database.statements import PostgresTable

LEADER_LEASE_SECONDS = 5.0

LEAD = """
INSERT INTO duty_leases AS d (name, holder, fence, until_at)
VALUES (:name, :holder, 1, clock_timestamp() + make_interval(secs => :lease_seconds))
ON CONFLICT (name) DO UPDATE
SET holder = EXCLUDED.holder, until_at = EXCLUDED.until_at,
    fence = d.fence + CASE WHEN d.holder = EXCLUDED.holder THEN 0 ELSE 1 END
WHERE d.holder = EXCLUDED.holder OR d.until_at < clock_timestamp()
RETURNING d.fence
"""

RESIGN = "DELETE FROM duty_leases WHERE name = :name AND holder = :holder RETURNING name"


class Leadership(PostgresTable):
    """One process's candidacy for one duty."""

    def __init__(
        self, engine: AsyncEngine, *, name: str, holder: str, lease_seconds: float = LEADER_LEASE_SECONDS
    ) -> None:
        super().__init__(engine)
        self._terms = {"name": name, "holder": holder}
        self._lease_seconds = lease_seconds

    async def lead(self) -> bool:
        """Take or renew the lease; False while another process holds it."""
        return bool(await self._fetch_once(LEAD, **self._terms, lease_seconds=self._lease_seconds))

    async def resign(self) -> None:
        """Give up the lease."""
        await self._fetch_once(RESIGN, **self._terms)
