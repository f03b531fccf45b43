"""`/budgets`, `/limits` and `/keys`, for operators."""

from typing import Literal

from fastapi import APIRouter
from pydantic import AwareDatetime, Field

from api.answers import Json, checked_id, listing, require
from api.auth import FOR_OPERATORS
from api.native.serializers import key_object
from api.requests import (
    IdempotencyKey,
    JsonBody,
    OfAuthenticator,
    OfServices,
    StrictBody,
    checked_key,
    documented,
    parse,
)
from schemas.errors import InvalidRequest
from schemas.ids import DEFAULT_TENANT, ID, AttemptId, KeyId, TenantId
from schemas.money import usd_text
from tasks.requests.new_ids import new_key_id, new_key_secret

router = APIRouter(tags=["operators"], dependencies=FOR_OPERATORS)


MOST_CHARACTERS = 256
"""Longer than any account name."""

MOST_NOTE_CHARACTERS = 1_000


Scope = Literal["operator", "submit", "lane:critical", "lane:high", "lane:normal", "lane:low"]
"""A key's lanes; the tenant must be allowed them too."""


class NewKey(StrictBody):
    """A key's tenant and scopes."""

    tenant_id: str = Field(default=DEFAULT_TENANT, pattern=f"^{ID.pattern}$")
    scopes: list[Scope] = Field(default=["submit"], min_length=1, max_length=6)


class NewBudget(StrictBody):
    """One budget, with the fields of `[[budgets]]` in penstock.toml."""

    scope: str = "global"
    window: str = "day"
    limit_usd: str
    timezone: str = "UTC"
    on_exhausted: list[str] | None = None
    pacing: str | None = None
    pacing_ahead: float | None = None


class StoppedAccount(StrictBody):
    """An account by its name in `[providers]`."""

    account: str = Field(min_length=1, max_length=MOST_CHARACTERS)


class NewRepricing(StrictBody):
    """The history to price again. `after` comes from the previous response, until that has none."""

    since: AwareDatetime = Field(strict=False)
    model: str | None = None
    after: str = Field(default="", pattern=f"^({ID.pattern})?$")
    dry_run: bool = False


class NewAdjustment(StrictBody):
    """An amount to add to a call's cost; negative amounts reduce it."""

    attempt_id: str
    amount_usd: str
    note: str = Field(min_length=1, max_length=MOST_NOTE_CHARACTERS)


@router.get("/budgets")
async def list_budgets(services: OfServices) -> Json:
    """List budgets with settled and reserved amounts of the current window."""
    return listing(await services.watch.budgets())


@router.post("/budgets", openapi_extra=documented(NewBudget))
async def set_budget(body: JsonBody, services: OfServices) -> Json:
    """Change one budget. It takes effect within seconds and stands until the file changes it."""
    return Json(await services.budget_admin.set_budget(parse(NewBudget, body).model_dump(exclude_none=True)))


@router.post("/budgets/reprice", openapi_extra=documented(NewRepricing))
async def reprice(body: JsonBody, services: OfServices) -> Json:
    """Price one page of history again and book the differences. Safe to call twice."""
    request = parse(NewRepricing, body)
    done = await services.repricing.round(
        since=request.since, model=request.model, after=request.after, dry_run=request.dry_run
    )
    return Json(
        {
            "object": "repricing",
            "checked": done.checked,
            "unpriced": done.unpriced,
            "adjusted": done.adjusted,
            "adjusted_usd": usd_text(done.adjusted_nano_usd),
            "after": done.after,
        }
    )


@router.post("/budgets/adjust", openapi_extra=documented(NewAdjustment))
async def adjust_charge(body: JsonBody, services: OfServices, *, idempotency_key: IdempotencyKey = None) -> Json:
    """Book an invoice's difference in the budget windows of the call. Needs an idempotency key."""
    adjustment = parse(NewAdjustment, body)
    key = checked_key(idempotency_key)
    if key is None:
        raise InvalidRequest(
            "An adjustment needs an idempotency-key, so that it is booked once.", param="idempotency_key"
        )
    attempt_id = AttemptId(checked_id(adjustment.attempt_id, "attempt"))
    return Json(await services.adjustments.book(key, attempt_id, adjustment.amount_usd, adjustment.note))


@router.get("/budgets/report")
async def report_spending(
    services: OfServices,
    by: str = "tenant",
    days: int = 30,
    timezone: str = "UTC",
    tenant: str = "",
) -> Json:
    """Report spending of the last days, and what of it bought nothing. `by` takes keys separated by commas."""
    tenant_id = TenantId(tenant) if tenant else None
    return listing(await services.budget_admin.report(by.split(","), days=days, zone=timezone, tenant_id=tenant_id))


@router.get("/limits")
async def list_limits(services: OfServices) -> Json:
    """List provider limits, waiting jobs by lane, and why a target receives nothing."""
    return listing(await services.watch.limits())


@router.post("/limits/open", openapi_extra=documented(StoppedAccount))
async def open_account(body: JsonBody, services: OfServices) -> Json:
    """Open an account that its provider's error stopped; waiting jobs wake early. Safe to call twice."""
    return Json(await services.accounts.open(parse(StoppedAccount, body).account))


@router.post("/keys", openapi_extra=documented(NewKey))
async def create_key(body: JsonBody, services: OfServices) -> Json:
    """Create a key. Only this response shows its secret."""
    request = parse(NewKey, body)
    secret = new_key_secret()
    key = await services.keys.create(new_key_id(), secret, TenantId(request.tenant_id), sorted(set(request.scopes)))
    return Json(key_object(key) | {"key": secret})


@router.get("/keys")
async def list_keys(services: OfServices) -> Json:
    """List keys, including revoked ones."""
    return listing([key_object(key) for key in await services.keys.all()])


@router.delete("/keys/{key_id}")
async def revoke_key(key_id: str, services: OfServices, authenticator: OfAuthenticator) -> Json:
    """Revoke a key: here at once, elsewhere within a second."""
    revoked = await services.keys.revoke(KeyId(checked_id(key_id, "key")))
    require(revoked or None, "key in force", key_id)
    authenticator.forget()
    return Json({"id": key_id, "object": "api_key", "revoked": True})
