"""A tenant that sends one refused request after the other leaves the process to others."""

import asyncio

from api.refused import LEAST_CHECK_SECONDS, LONGEST_REST_SECONDS, REST_TIMES_CHECK, RefusedRequests
from schemas.ids import TenantId

GREEDY, OTHER = TenantId("greedy"), TenantId("other")
CHECK_SECONDS = 0.004


async def test_refusals_of_a_tenant_rest_in_turn_and_nobody_else_waits_for_them() -> None:
    refused, order = RefusedRequests(), list[str]()

    async def rest(name: str, tenant: TenantId, check_seconds: float) -> None:
        await refused.rest(tenant, check_seconds)
        order.append(name)

    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(
        *(rest("greedy", GREEDY, CHECK_SECONDS) for _ in range(3)),
        rest("cheap", GREEDY, LEAST_CHECK_SECONDS / 2),
        rest("other", OTHER, CHECK_SECONDS / 2),
    )

    assert order == ["cheap", "other", "greedy", "greedy", "greedy"]
    assert loop.time() - began >= 3 * CHECK_SECONDS * REST_TIMES_CHECK


async def test_no_refusal_rests_for_longer_than_the_bound() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()

    await asyncio.wait_for(RefusedRequests().rest(GREEDY, 3_600.0), 60)

    assert loop.time() - began >= LONGEST_REST_SECONDS
