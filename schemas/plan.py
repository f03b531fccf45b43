"""One call as planned, before admission."""

from dataclasses import dataclass

from schemas.admission import BudgetCounter
from schemas.estimates import Measured
from schemas.ids import DEFAULT_TENANT, TenantId
from schemas.job import Target
from schemas.jsons import JsonObject
from schemas.money import Price, Quote
from schemas.tenants import TenantShare


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One planned call; `measured` is the basis of its prompt estimate."""

    target: Target
    body: JsonObject
    price: Price
    quote: Quote
    tenant_id: TenantId = DEFAULT_TENANT
    counters: tuple[BudgetCounter, ...] = ()
    measured: Measured | None = None
    share: TenantShare | None = None
