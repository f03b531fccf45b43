"""Many rows in one statement: parameters as arrays, one per column, unnested by the server."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.rows import Row

MAX_STATEMENTS = 256
"""Statements whose parsed form is kept: each of ours is a constant, or one of few that are put together."""


def columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows turned on their side: column name -> values in row order."""
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


async def fetch(connection: AsyncConnection, query: str, parameters: Mapping[str, Any]) -> Sequence[Row]:
    """All rows of a query, by column name."""
    result = await connection.execute(_parsed(query), dict(parameters))
    return result.mappings().all()


async def run(connection: AsyncConnection, query: str, parameters: Mapping[str, Any]) -> None:
    """A statement whose rows nobody wants."""
    await connection.execute(_parsed(query), dict(parameters))


@lru_cache(maxsize=MAX_STATEMENTS)
def _parsed(query: str) -> TextClause:
    """Looking for the parameters anew each time cost 0.1 ms for the longer ones."""
    return text(query)
