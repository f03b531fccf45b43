"""Reads listings on separate connections with a time limit, so that slow ones delay only listings."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from schemas.errors import ListingsBusy, ListingTooSlow, NotFound, PostgresBusy, PostgresUnavailable
from schemas.ids import TenantId
from schemas.permits import TenantPermits
from storage.database.engine import open_engine, transaction
from storage.database.statements import PostgresTable, Row, fetch

LISTING_CONNECTIONS = 3
"""Concurrent listings of tenants per process; slow ones delay only each other."""

LISTINGS_OF_A_TENANT = 2
"""Concurrent listings of one tenant."""

REST_SECONDS = 0.02
"""Pause after each listing: at most 100 a second leave most of the process to other tenants."""

OPERATOR_CONNECTIONS = 1
"""Additional connections for operators, so that tenants do not block them."""

LISTING_TIMEOUT_MS = 2_000
"""A page that an index serves takes a few milliseconds."""

LISTING_WAIT_SECONDS = 2.0

NEWEST_FIRST = """
  AND (CAST(:after AS text) IS NULL OR (created_at, id) < (CAST(:after_at AS timestamptz), CAST(:after AS text)))
ORDER BY created_at DESC, id DESC LIMIT :most
"""
"""Ends a query of `page` over rows by their creation."""


def open_listings_engine(database_url: str, *, application: str) -> AsyncEngine:
    """Open the pool of listings, which connects at its first use."""
    return open_engine(
        database_url,
        application=f"{application} listings",
        pool_size=LISTING_CONNECTIONS + OPERATOR_CONNECTIONS,
        pool_timeout_seconds=LISTING_WAIT_SECONDS,
        statement_timeout_ms=LISTING_TIMEOUT_MS,
    )


class Listings:
    """Limits this process's concurrent listings."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._of_a_tenant = TenantPermits(LISTINGS_OF_A_TENANT, rest_seconds=REST_SECONDS)
        self._of_tenants = asyncio.Semaphore(LISTING_CONNECTIONS)

    @asynccontextmanager
    async def transaction(self, tenant_id: TenantId | None) -> AsyncIterator[AsyncConnection]:
        """Run a listing's transaction; None lists over all tenants.

        Raises ListingTooSlow, ListingsBusy and PostgresUnavailable.
        """
        async with AsyncExitStack() as permits:
            if tenant_id is not None:
                await self._take_permits(permits, tenant_id)
            async with self._transaction() as connection:
                yield connection

    async def _take_permits(self, permits: AsyncExitStack, tenant_id: TenantId) -> None:
        try:
            async with asyncio.timeout(LISTING_WAIT_SECONDS):
                await permits.enter_async_context(self._of_a_tenant.permit(tenant_id))
                await permits.enter_async_context(self._of_tenants)
        except TimeoutError as error:
            raise ListingsBusy from error

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with transaction(self._engine) as connection:
                yield connection
        except PostgresBusy as error:
            raise ListingTooSlow from error
        except PostgresUnavailable as error:
            if isinstance(error.__cause__, PoolTimeoutError):
                raise ListingsBusy from error
            raise


class ListedTable(PostgresTable):
    """A table whose listings have their own connections."""

    def __init__(self, engine: AsyncEngine, listings: Listings | None = None) -> None:
        super().__init__(engine)
        self._listings = listings or Listings(engine)


async def page(
    connection: AsyncConnection,
    query: str,
    cursor_query: str,
    *,
    after: str | None,
    most: int,
    **terms: Any,  # noqa: ANN401 - bind values
) -> Sequence[Row]:
    """Read a page after a cursor; `cursor_query` finds the cursor's sort time.

    Raises NotFound for a missing cursor, or another owner's.
    """
    after_at: Any = None
    if after is not None:
        rows = await fetch(connection, cursor_query, {"after": after, **terms})
        after_at = rows[0]["at"] if rows else None
        if after_at is None:
            raise NotFound(f"There is nothing with the id '{after}' in this listing.", param="after")
    return await fetch(connection, query, {"after": after, "after_at": after_at, "most": most, **terms})
