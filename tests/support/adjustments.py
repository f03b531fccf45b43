"""Adjusts charges as an operator would."""

import uuid

from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.ids import AttemptId
from schemas.money import NanoUsd
from storage.ledger.adjustments import AdjustedCharge, Adjustment, AdjustmentTable


async def adjust(engine: AsyncEngine, attempt_id: AttemptId, nano_usd: int) -> AdjustedCharge | None:
    """Book an adjustment under a key of its own."""
    adjustment = Adjustment(key=uuid.uuid4().hex, attempt_id=attempt_id, nano_usd=NanoUsd(nano_usd), note="an invoice")
    return await AdjustmentTable(engine).book(adjustment)
