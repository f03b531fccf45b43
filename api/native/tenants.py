"""`/tenants`: limits and use, for operators."""

from fastapi import APIRouter

from api.answers import Json, checked_id, listing
from api.auth import Operator
from api.requests import JsonBody, OfServices
from config.tenants import EVERY_TENANT

router = APIRouter(prefix="/tenants", tags=["operators"])

LIMITS_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}


@router.get("")
async def list_tenants(operator: Operator, services: OfServices) -> Json:
    """List tenants with their limits and use."""
    _ = operator
    return listing(await services.tenants.all())


@router.post("/{name}", openapi_extra=LIMITS_BODY)
async def set_tenant_limits(name: str, operator: Operator, body: JsonBody, services: OfServices) -> Json:
    """Replace a tenant's limits within seconds; `*` means tenants without their own table."""
    _ = operator
    named = name if name == EVERY_TENANT else checked_id(name, "tenant")
    return Json(await services.tenants.set_share(named, body))
