"""`/budgets/suspense`: unresolved charges, for operators."""

from fastapi import APIRouter

from api.answers import Json, checked_id, page
from api.auth import FOR_OPERATORS
from api.native.jobs import USUAL_ROWS, Limit
from api.requests import JsonBody, OfServices, StrictBody, documented, parse
from schemas.errors import InvalidRequest
from schemas.ids import AttemptId

router = APIRouter(prefix="/budgets/suspense", tags=["operators"], dependencies=FOR_OPERATORS)


class Word(StrictBody):
    """A billed amount, or `released` where nothing was billed."""

    billed_usd: str | int | float | None = None
    released: bool = False


@router.get("")
async def list_suspense(services: OfServices, *, after: str | None = None, limit: Limit = USUAL_ROWS) -> Json:
    """List unresolved charges, oldest first."""
    cursor = None if after is None else AttemptId(checked_id(after, "attempt"))
    return page(await services.suspense.oldest(after=cursor, most=limit + 1), limit, lambda row: row)


@router.post("/{attempt_id}", openapi_extra=documented(Word))
async def resolve_suspense(attempt_id: str, body: JsonBody, services: OfServices) -> Json:
    """Book a call's billed amount. Safe to call twice."""
    resolution = parse(Word, body)
    if (resolution.billed_usd is None) != resolution.released:
        raise InvalidRequest("Say either billed_usd or released.", param="billed_usd")
    return Json(await services.suspense.resolve(AttemptId(checked_id(attempt_id, "attempt")), resolution.billed_usd))
