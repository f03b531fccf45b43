"""A tenant that takes all it can get leaves others their share."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.support.figures import Figures
from tests.support.trial_callers import Callers
from tests.support.trial_stack import TrialStack, eventually

GREEDY_CALLS = 600
CALL_MS = 10_000
SINGLE_CALLS = 3
FLOODED_CALLS = 100
"""So many of the greedy tenant's calls are with the provider before anybody else calls."""

CALLS_OF_A_SHARE = 200
FLOOD_SECONDS = 60.0
MOST_TIMES_ALONE = 1.2
REST_SECONDS = 120.0
SLOW = {"delay_ms": CALL_MS}


@pytest.fixture
def shared(trials: TrialStack) -> Iterator[TrialStack]:
    """Hold the greedy tenant to a share of the calls: in the lanes, slots belong to whoever was there first."""
    trials.stack.door.post("tenants", "a", body={"calls_in_flight": CALLS_OF_A_SHARE})
    yield trials
    trials.stack.door.post("tenants", "a", body={})


@pytest.mark.slow
async def test_a_single_call_beside_slow_ones_is_as_quick_as_alone(trials: TrialStack, figures: Figures) -> None:
    await _compare(trials, figures, None)


@pytest.mark.slow
@pytest.mark.parametrize("lane", ["critical", "high", "normal"])
async def test_a_single_job_beside_a_tenant_at_its_share_is_as_quick_as_alone(
    shared: TrialStack, figures: Figures, lane: str
) -> None:
    await _compare(shared, figures, lane)


async def _compare(trials: TrialStack, figures: Figures, lane: str | None) -> None:
    async with Callers.of(trials, "a") as a, Callers.of(trials, "b") as b:
        alone = max(await _singles(b, lane))
        greedy = [asyncio.ensure_future(_one(a, lane)) for _ in range(GREEDY_CALLS)]
        flooded = await eventually(lambda: _is_flooded(trials), within_seconds=FLOOD_SECONDS)
        beside = max(await _singles(b, lane))
        for call in greedy:
            call.cancel()
        await asyncio.gather(*greedy, return_exceptions=True)

    share = f", {CALLS_OF_A_SHARE} at once" if lane else ""
    name = f"{GREEDY_CALLS} slow {lane or 'synchronous'} calls of one tenant{share}"
    figures.note(name, "another's single call, times alone", beside / alone, f"<= {MOST_TIMES_ALONE}")
    assert flooded
    assert beside / alone <= MOST_TIMES_ALONE


async def _is_flooded(trials: TrialStack) -> bool:
    meter = await asyncio.to_thread(trials.provider.meter)
    return int(meter["concurrent"]) >= FLOODED_CALLS


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
