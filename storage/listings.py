"""Reads listings on a few connections of their own, within a time-out, from a cursor of the same tenant.

A listing that reads much can so be given up without taking a connection from completions, keys or batches.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from schemas.errors import ListingsBusy, ListingTooSlow, NotFound, PostgresBusy, PostgresUnavailable
from storage.batched import fetch
from storage.engine import open_engine, transaction

LISTING_CONNECTIONS = 3
"""Listings that a process reads at once. Most take a millisecond; the slow ones wait for each other only."""

LISTING_TIMEOUT_MS = 2_000
"""Longest statement of a listing: a page that an index serves takes a few milliseconds."""

LISTING_WAIT_SECONDS = 2.0
"""How long a listing waits for one of those connections before its caller is told to come again."""


def open_listings_engine(database_url: str, *, application: str) -> AsyncEngine:
    """The pool of listings; it connects when the first is asked for."""
    return open_engine(
        database_url,
        application=f"{application} listings",
        pool_size=LISTING_CONNECTIONS,
        pool_timeout_seconds=LISTING_WAIT_SECONDS,
        statement_timeout_ms=LISTING_TIMEOUT_MS,
    )


@asynccontextmanager
async def listing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One transaction of a listing. Raises ListingTooSlow, ListingsBusy and PostgresUnavailable."""
    try:
        async with transaction(engine) as connection:
            yield connection
    except PostgresBusy as error:
        raise ListingTooSlow from error
    except PostgresUnavailable as error:
        if isinstance(error.__cause__, PoolTimeoutError):
            raise ListingsBusy from error
        raise


async def cursor_moment(
    connection: AsyncConnection, query: str, after: str | None, owner: Mapping[str, Any]
) -> datetime | None:
    """The moment by which the listing sorts `after`, which `query` finds among what the caller may see.

    None without a cursor. Raises NotFound for what is not there or belongs to somebody else.
    """
    if after is None:
        return None
    rows = await fetch(connection, query, {"after": after, **owner})
    moment: datetime | None = rows[0]["at"] if rows else None
    if moment is None:
        raise NotFound(f"There is nothing with the id '{after}' in this listing.", param="after")
    return moment
