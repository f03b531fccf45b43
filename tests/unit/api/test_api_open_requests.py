"""Requests under way are counted by tenant, to the end of the answer."""

from typing import Any

import pytest

from api.open_requests import FEW_REQUESTS, OpenRequests
from schemas.errors import QuotaReached
from schemas.ids import TenantId
from schemas.tenants import TenantShare

TWO = TenantShare(tenant_id=TenantId("greedy"), connections=2)


def test_the_third_of_two_connections_is_refused_until_one_has_ended() -> None:
    requests, scopes = OpenRequests(most=1_000), [dict[str, Any]() for _ in range(3)]
    requests.open(TWO, scopes[0])
    requests.open(TWO, scopes[1])

    with pytest.raises(QuotaReached, match="connections of this tenant is 2, and 2 are in use"):
        requests.open(TWO, scopes[2])
    requests.close(scopes[2])
    with pytest.raises(QuotaReached):
        requests.open(TWO, scopes[2])

    requests.close(scopes[0])
    requests.close(scopes[0])
    requests.open(TWO, scopes[2])


def test_another_tenant_has_connections_of_its_own() -> None:
    requests = OpenRequests(most=1_000)
    for _ in range(2):
        requests.open(TWO, {})

    requests.open(TenantShare(tenant_id=TenantId("modest"), connections=1), {})


def test_one_tenant_leaves_a_reserve_to_those_with_few_requests() -> None:
    greedy, modest = TenantShare(tenant_id=TenantId("greedy")), TenantShare(tenant_id=TenantId("modest"))
    requests = OpenRequests(most=400)
    for _ in range(360):
        requests.open(greedy, {})

    with pytest.raises(QuotaReached, match="has 360 open"):
        requests.open(greedy, {})
    for _ in range(FEW_REQUESTS):
        requests.open(modest, {})
    with pytest.raises(QuotaReached):
        requests.open(modest, {})
