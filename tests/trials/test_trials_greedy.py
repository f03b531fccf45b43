"""A tenant that takes all it can get leaves others their share."""

import asyncio
import time

import pytest

from tests.support.figures import Figures
from tests.support.trial_callers import Callers
from tests.support.trial_stack import TrialStack, eventually

GREEDY_CALLS = 600
CALL_MS = 10_000
SINGLE_CALLS = 3
FLOODED_CALLS = 550
"""So many of the greedy tenant's calls are with the provider before anybody else calls."""

CALLS_OF_A_SHARE = 300
"""Of one worker process with 500 slots, the only one that takes normal jobs in the trial."""

FLOOD_SECONDS = 60.0
MOST_TIMES_ALONE = 1.2
REST_SECONDS = 120.0
SLOW = {"delay_ms": CALL_MS}
SLOWER = {"delay_ms": 3 * CALL_MS}
"""The greedy tenant's, so that the single calls lie within them."""


@pytest.mark.slow
@pytest.mark.parametrize("lane", [None, "critical", "high"], ids=lambda lane: lane or "synchronous")
async def test_a_single_call_beside_a_greedy_tenant_is_as_quick_as_alone(
    trials: TrialStack, figures: Figures, lane: str | None
) -> None:
    name = f"{GREEDY_CALLS} slow {lane or 'synchronous'} calls of one tenant"
    await _compare(trials, figures, name, lane, flooded_calls=FLOODED_CALLS)


@pytest.mark.slow
async def test_a_share_keeps_slots_free_where_calls_are_more_than_slots(trials: TrialStack, figures: Figures) -> None:
    trials.stack.api.post("tenants", "a", body={"calls_in_flight": CALLS_OF_A_SHARE})
    name = f"{GREEDY_CALLS} slow normal calls, {CALLS_OF_A_SHARE} at once by a share"
    await _compare(trials, figures, name, "normal", flooded_calls=CALLS_OF_A_SHARE * 2 // 3)
    trials.stack.api.post("tenants", "a", body={})


async def _compare(trials: TrialStack, figures: Figures, name: str, lane: str | None, *, flooded_calls: int) -> None:
    async with Callers.of(trials, "a") as a, Callers.of(trials, "b") as b:
        alone = max(await _singles(b, lane))
        greedy = [asyncio.ensure_future(_begin(a, lane)) for _ in range(GREEDY_CALLS)]
        flooded = await eventually(lambda: _is_flooded(trials, flooded_calls), within_seconds=FLOOD_SECONDS)
        beside = max(await asyncio.gather(*(_one(b, lane) for _ in range(SINGLE_CALLS))))
        for call in greedy:
            call.cancel()
        await asyncio.gather(*greedy, return_exceptions=True)

    figures.note(name, "another's single call, times alone", beside / alone, f"<= {MOST_TIMES_ALONE}")
    assert flooded
    assert beside / alone <= MOST_TIMES_ALONE


async def _is_flooded(trials: TrialStack, calls: int) -> bool:
    meter = await asyncio.to_thread(trials.provider.meter)
    return int(meter["concurrent"]) >= calls


async def _begin(callers: Callers, lane: str | None) -> None:
    """Make a call, or submit a job and go."""
    await (callers.call(SLOWER) if lane is None else callers.submit(SLOWER, lane=lane))


async def _singles(callers: Callers, lane: str | None) -> list[float]:
    """One call after the other; the seconds of each."""
    return [await _one(callers, lane) for _ in range(SINGLE_CALLS)]


async def _one(callers: Callers, lane: str | None) -> float:
    """Until a slow call has been answered, or a slow job of this lane has come to rest."""
    began = time.monotonic()
    if lane is None:
        answer = await callers.call(SLOW)
        assert answer.is_ok, (answer.status, answer.body)
    else:
        load = await callers.mixed(calls=0, jobs=1, script=SLOW, rest_seconds=REST_SECONDS, lane=lane)
        assert load.failures == 0, load.complaint()
    return time.monotonic() - began
