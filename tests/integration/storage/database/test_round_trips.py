"""A single statement costs no BEGIN and no COMMIT; several together are one transaction."""

from sqlalchemy.ext.asyncio import AsyncEngine

from storage.database.statements import PostgresTable, fetch

IS_ALONE = "SELECT transaction_timestamp() = statement_timestamp() AS alone"
"""A transaction that an earlier BEGIN opened has an earlier time than its statement."""


class ClockTable(PostgresTable):
    """Reads the clocks of transaction and statement."""

    async def alone(self) -> bool:
        [row] = await self._fetch_once(IS_ALONE)
        return bool(row["alone"])

    async def in_transaction(self) -> bool:
        async with self._transaction() as connection:
            [row] = await fetch(connection, IS_ALONE, {})
        return not row["alone"]


async def test_a_single_statement_opens_no_transaction_first(engine: AsyncEngine) -> None:
    table = ClockTable(engine)

    assert [await table.alone() for _ in range(3)] == [True] * 3  # the pool hands the same connection out again


async def test_statements_of_a_transaction_share_it_also_after_a_single_one(engine: AsyncEngine) -> None:
    table = ClockTable(engine)
    await table.alone()

    assert await table.in_transaction()
    assert await table.alone()
