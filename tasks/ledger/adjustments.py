"""Books differences between an invoice and the ledger, as an operator states them.

An adjustment counts in the budget windows of its call. Postgres has it at once; the audit brings it to Redis.
"""

import structlog

from schemas.attempt import AttemptState
from schemas.errors import IdempotencyConflict, InvalidRequest, NotFound
from schemas.ids import AttemptId
from schemas.jsons import JsonObject
from schemas.money import NANO_PER_USD, NanoUsd, nano_from_usd, read_usd, usd_text
from storage.ledger.adjustments import AdjustedCharge, Adjustment, AdjustmentTable
from tasks.requests.chat import MAX_COST_USD

log = structlog.get_logger()


class Adjustments:
    """Adjusts resolved charges for operators."""

    def __init__(self, rows: AdjustmentTable) -> None:
        self._rows = rows

    async def book(self, key: str, attempt_id: AttemptId, amount_usd: str, note: str) -> JsonObject:
        """Add an amount, which may be negative, to what an attempt has cost. Safe to call twice under one key.

        Raises NotFound, InvalidRequest for a charge that it does not fit, and IdempotencyConflict.
        """
        wanted = Adjustment(key=key, attempt_id=attempt_id, nano_usd=_nano_usd(amount_usd), note=note)
        charge = await self._rows.book(wanted)
        if charge is None:
            raise NotFound(f"There is no attempt with the id '{attempt_id}'.", param="attempt_id")
        if charge.adjustment is None:
            raise _unfit(charge)
        if charge.adjustment != wanted:
            raise IdempotencyConflict(
                f"The idempotency key {key!r} was used before with another adjustment.", param="idempotency_key"
            )
        log.info("charge_adjusted", attempt_id=attempt_id, key=key, nano_usd=wanted.nano_usd)
        return _object(wanted, charge)


def _nano_usd(given: str) -> NanoUsd:
    amount = read_usd(given)
    if not amount or abs(amount) > MAX_COST_USD or amount * NANO_PER_USD % 1:
        raise InvalidRequest(
            f"amount_usd must be an amount of at most {MAX_COST_USD}, with at most nine places, and not zero.",
            param="amount_usd",
        )
    return nano_from_usd(amount)


def _unfit(charge: AdjustedCharge) -> InvalidRequest:
    match charge.state:
        case AttemptState.OPENED | AttemptState.SUSPENSE:
            return InvalidRequest(
                "This charge is not resolved yet; /budgets/suspense takes what it came to.", param="attempt_id"
            )
        case AttemptState.POSTED | AttemptState.RELEASED:
            booked = usd_text(charge.booked_nano_usd)
            return InvalidRequest(f"{booked} USD are booked; no more can be taken away.", param="amount_usd")


def _object(adjustment: Adjustment, charge: AdjustedCharge) -> JsonObject:
    return {
        "id": adjustment.key,
        "object": "adjustment",
        "attempt_id": adjustment.attempt_id,
        "amount_usd": usd_text(adjustment.nano_usd),
        "note": adjustment.note,
        "booked_usd": usd_text(charge.booked_nano_usd),
        "created_at": charge.booked_at,
    }
