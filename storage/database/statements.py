"""Runs statements; those over many rows take one array parameter per column."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from storage.database.engine import one_statement, transaction

Item = TypeVar("Item")

Row = Mapping[Any, Any]

MOST_BYTES_AT_ONCE = 4_000_000
"""JSON text that one query may load into memory, unless one row is larger."""

MAX_STATEMENTS = 256
"""Each statement is a constant, or one of a few combinations."""


RunEach = Callable[[Iterable[Item], Callable[[Item], str], Callable[[Item], Awaitable[int]]], Awaitable[int]]
"""Runs a step for each named item and returns the sum (`tasks.maintenance.items`)."""


async def in_order(
    items: Iterable[Item], _name_of: Callable[[Item], str], step: Callable[[Item], Awaitable[int]]
) -> int:
    """Run the steps in order; the first error ends the round."""
    return sum([await step(item) for item in items])


def columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Transpose rows to lists by column name."""
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def unnested(declarations: str) -> str:
    """Build a table `g` of rows from `columns`; they are declared as in CREATE TABLE."""
    declared = [declaration.split() for declaration in declarations.split(",")]
    arrays = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in declared)
    return f"unnest({arrays}) AS g ({', '.join(name for name, _ in declared)})"


async def fetch(connection: AsyncConnection, query: str, parameters: Mapping[str, Any]) -> Sequence[Row]:
    """Fetch all rows of a query."""
    result = await connection.execute(_parsed(query), dict(parameters))
    return result.mappings().all()


async def run(connection: AsyncConnection, query: str, parameters: Mapping[str, Any]) -> None:
    """Run a statement without rows."""
    await connection.execute(_parsed(query), dict(parameters))


@lru_cache(maxsize=MAX_STATEMENTS)
def _parsed(query: str) -> TextClause:
    """Finding the parameters each time cost 0.1 ms for longer statements."""
    return text(query)


class PostgresTable:
    """Runs statements over one pool of connections."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def now(self) -> datetime:
        """Read Postgres's clock, which judges leases."""
        [row] = await self._fetch_once("SELECT clock_timestamp() AS now")
        now: datetime = row["now"]
        return now

    def _transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Raises PostgresUnavailable and StatementFailed."""
        return transaction(self._engine)

    async def _fetch_once(self, query: str, **parameters: Any) -> Sequence[Row]:  # noqa: ANN401 - bind values
        """Fetches all rows of one statement, which is a transaction of its own."""
        async with one_statement(self._engine) as connection:
            return await fetch(connection, query, parameters)

    async def _run_once(self, query: str, **parameters: Any) -> None:  # noqa: ANN401 - bind values
        """Runs one statement without rows, which is a transaction of its own."""
        async with one_statement(self._engine) as connection:
            await run(connection, query, parameters)


def by_bytes(sizes: Mapping[str, int], most_bytes: int = MOST_BYTES_AT_ONCE) -> Iterator[list[str]]:
    """Group ids in order, at most `most_bytes` per group; a larger item is alone."""
    group, total = list[str](), 0
    for name, size in sizes.items():
        if group and total + size > most_bytes:
            yield group
            group, total = [], 0
        group.append(name)
        total += size
    if group:
        yield group
