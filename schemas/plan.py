"""One call as it would be made, before anybody has said yes to it."""

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
    """Where the call goes, its final body, its price, its worst case, and the budgets that it counts against.

    `measured` is what the size of its prompt was estimated from; `share` limits the calls of its tenant, where it does.
    """

    target: Target
    body: JsonObject
    price: Price
    quote: Quote
    tenant_id: TenantId = DEFAULT_TENANT
    counters: tuple[BudgetCounter, ...] = ()
    measured: Measured | None = None
    share: TenantShare | None = None
