"""Whose quota the bytes of imported dead letters count against."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from api.auth import Caller
from api.native.dead_letters import import_dead_letters
from schemas.ids import TenantId
from schemas.tenants import no_limits

ACME = TenantId("acme")


class CountedQuotas:
    """Quotas that note for which tenant bytes were counted."""

    def __init__(self) -> None:
        self.tenants = list[str]()

    async def counted(self, tenant_id: TenantId, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self.tenants.append(tenant_id)
        async for part in parts:
            yield part


class ReadImports:
    """An import that reads every line and keeps none."""

    async def take(self, lines: AsyncIterator[bytes], *_: object, **__: object) -> SimpleNamespace:
        checked = len([line async for line in lines])
        return SimpleNamespace(checked=checked, imported=0, known=0)


async def imported_for(caller: Caller, *, dry_run: bool) -> list[str]:
    """The tenants whose bytes were counted."""
    quotas = CountedQuotas()
    services: Any = SimpleNamespace(
        quotas=quotas,
        imports=ReadImports(),
        keys=SimpleNamespace(tenants=no_tenants),
        vocabulary=SimpleNamespace(schema_complaint=None),
        share=no_limits,
    )

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"{}\n", "more_body": False}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    await import_dead_letters(request, caller, services, dry_run=dry_run, first_line=1)
    return quotas.tenants


async def no_tenants() -> frozenset[str]:
    return frozenset()


@pytest.mark.parametrize(
    ("caller", "tenants"),
    [
        (Caller(tenant_id=ACME), [ACME]),
        (Caller(tenant_id=ACME, is_operator=True, named=True), [ACME]),
        (Caller(tenant_id=ACME, is_operator=True), []),
    ],
    ids=["a tenant", "an operator for a tenant", "an operator for all tenants"],
)
async def test_imported_bytes_count_for_the_tenant_that_the_caller_acts_for(caller: Caller, tenants: list[str]) -> None:
    assert await imported_for(caller, dry_run=False) == tenants
    assert await imported_for(caller, dry_run=True) == []
