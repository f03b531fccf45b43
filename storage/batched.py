"""Many rows in one statement: parameters as arrays, one per column, unnested by the server."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.rows import Row


def columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows turned on their side: column name -> values in row order."""
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


async def fetch(connection: AsyncConnection, query: str, parameters: Mapping[str, Any]) -> Sequence[Row]:
    """All rows of a query, by column name."""
    result = await connection.execute(text(query), dict(parameters))
    return result.mappings().all()


async def run(connection: AsyncConnection, query: str, parameters: Mapping[str, Any]) -> None:
    """A statement whose rows nobody wants."""
    await connection.execute(text(query), dict(parameters))
