"""`/tenants`: limits and use, for operators."""

from fastapi import APIRouter

from api.answers import Json, checked_id, listing
from api.auth import FOR_OPERATORS
from api.requests import JsonBody, OfServices, body_of
from config.tenants import EVERY_TENANT

router = APIRouter(prefix="/tenants", tags=["operators"], dependencies=FOR_OPERATORS)


@router.get("")
async def list_tenants(services: OfServices) -> Json:
    """List tenants with their limits and use."""
    return listing(await services.tenants.all())


@router.post("/{name}", openapi_extra=body_of({"type": "object"}))
async def set_tenant_limits(name: str, body: JsonBody, services: OfServices) -> Json:
    """Replace a tenant's limits within seconds; `*` means tenants without their own table."""
    named = name if name == EVERY_TENANT else checked_id(name, "tenant")
    return Json(await services.tenants.set_share(named, body))
