"""A single statement costs no BEGIN and no COMMIT; several together are one transaction."""

from sqlalchemy.ext.asyncio import AsyncEngine

from storage.database.engine import transaction
from storage.database.statements import PostgresTable, fetch

IS_ALONE = "SELECT transaction_timestamp() = statement_timestamp() AS alone"
"""A transaction that an earlier BEGIN opened has an earlier time than its statement."""


async def test_a_single_statement_opens_no_transaction_first(engine: AsyncEngine) -> None:
    for _ in range(3):  # the pool hands the same connection out again
        [row] = await PostgresTable(engine)._fetch_once(IS_ALONE)
        assert row["alone"]


async def test_statements_of_a_transaction_share_it_also_after_a_single_one(engine: AsyncEngine) -> None:
    await PostgresTable(engine)._fetch_once(IS_ALONE)

    async with transaction(engine) as connection:
        [row] = await fetch(connection, IS_ALONE, {})

    assert not row["alone"]
