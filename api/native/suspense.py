"""`/budgets/suspense`: unresolved charges, and their resolution by an operator. Needs the operator scope."""

from fastapi import APIRouter

from api.answers import Json, checked_id, page
from api.auth import FOR_OPERATORS
from api.native.jobs import USUAL_ROWS, Limit
from api.requests import JsonBody, OfServices, StrictBody, documented, parse
from schemas.errors import InvalidRequest
from schemas.ids import AttemptId
from schemas.jsons import JsonObject

router = APIRouter(prefix="/budgets/suspense", tags=["operators"], dependencies=FOR_OPERATORS)


class Word(StrictBody):
    """What the provider's invoice says: an amount that was billed, or that nothing was."""

    billed_usd: str | int | float | None = None
    released: bool = False


@router.get("")
async def list_suspense(services: OfServices, *, after: str | None = None, limit: Limit = USUAL_ROWS) -> Json:
    """List what lies in suspense, the oldest first, with who will resolve it and when."""
    cursor = None if after is None else AttemptId(checked_id(after, "attempt"))
    return page(await services.suspense.oldest(after=cursor, most=limit + 1), limit, _as_it_is)


@router.post("/{attempt_id}", openapi_extra=documented(Word))
async def resolve_suspense(attempt_id: str, body: JsonBody, services: OfServices) -> Json:
    """Say what a call was billed: booked in the ledger as an operator's word. Safe to call twice."""
    word = parse(Word, body)
    if (word.billed_usd is None) != word.released:
        raise InvalidRequest("Say either billed_usd or released.", param="billed_usd")
    return Json(await services.suspense.resolve(AttemptId(checked_id(attempt_id, "attempt")), word.billed_usd))


def _as_it_is(row: JsonObject) -> JsonObject:
    return row
