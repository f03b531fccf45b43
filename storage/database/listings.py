"""Reads listings on separate connections, within a time limit, and from a cursor of the same tenant.

So a slow listing can be aborted without taking a connection from completions or keys. Tenants cannot take all of these
connections, and one tenant cannot take all of the tenants' part.
"""

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
from storage.database.statements import Row, fetch

LISTING_CONNECTIONS = 3
"""Concurrent listings of tenants per process. Most take a millisecond; slow ones delay only each other."""

LISTINGS_OF_A_TENANT = 2
"""Of those, listings of one tenant, also when an operator asks for them."""

REST_SECONDS = 0.02
"""How long a tenant's place for listings stays unused after each. With two places that is at most 100 listings a
second, so that a tenant that lists without pause leaves most of a web process to others."""

OPERATOR_CONNECTIONS = 1
"""Additional connections for listings over all tenants, so that operators are not blocked by tenants."""

LISTING_TIMEOUT_MS = 2_000
"""Statement time limit of a listing; a page that an index serves takes a few milliseconds."""

LISTING_WAIT_SECONDS = 2.0
"""How long a listing waits for a connection before ListingsBusy."""


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
    """This process's connections for listings."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._of_a_tenant = TenantPermits(LISTINGS_OF_A_TENANT, rest_seconds=REST_SECONDS)
        self._of_tenants = asyncio.Semaphore(LISTING_CONNECTIONS)

    @asynccontextmanager
    async def transaction(self, tenant_id: TenantId | None) -> AsyncIterator[AsyncConnection]:
        """One transaction of a listing; None lists over all tenants.

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


async def page(
    connection: AsyncConnection,
    query: str,
    cursor_query: str,
    *,
    after: str | None,
    most: int,
    **terms: Any,  # noqa: ANN401 - bind values
) -> Sequence[Row]:
    """At most `most` rows of a listing, after cursor `after`, whose sort time `cursor_query` finds under these terms.

    Raises NotFound for a cursor that does not exist or belongs to another owner.
    """
    after_at: Any = None
    if after is not None:
        rows = await fetch(connection, cursor_query, {"after": after, **terms})
        after_at = rows[0]["at"] if rows else None
        if after_at is None:
            raise NotFound(f"There is nothing with the id '{after}' in this listing.", param="after")
    return await fetch(connection, query, {"after": after, "after_at": after_at, "most": most, **terms})
