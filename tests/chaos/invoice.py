"""Suspense resolved by the provider's bill, as an operator with an invoice does it."""

import asyncio
from collections.abc import Mapping

from schemas.ids import AttemptId
from schemas.money import NanoUsd
from storage.database.engine import open_engine
from storage.ledger.ledger import LedgerTable
from storage.ledger.unresolved import SuspenseTable

MOST = 100_000


def resolve_by_bill(database_url: str, bills: Mapping[AttemptId, NanoUsd]) -> int:
    """Post what was billed, release what was not; returns how many attempts were in suspense."""

    async def resolve() -> int:
        engine = open_engine(database_url, application="invoice")
        ledger, unresolved = LedgerTable(engine), SuspenseTable(engine)
        await ledger.suspend_orphans(older_seconds=0)
        unknown = await ledger.suspense(most=MOST)
        for unsettled in unknown:
            cost = bills.get(unsettled.attempt_id)
            if cost is None:
                await unresolved.resolve(unsettled.attempt_id, None)
            else:
                await ledger.post(unsettled.attempt_id, cost)
        await engine.dispose()
        return len(unknown)

    return asyncio.run(resolve())
