"""Checking a contract or a reply holds no loop, whatever they are."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.support.figures import Figures, percentile
from tests.support.heavy_contracts import ALL, EACH_KIND, HeavyContract
from tests.support.trial_callers import NO_ANSWER, Answer, Callers
from tests.support.trial_stack import TrialStack

LOADED_PROCESSES = ("interactive", "standard-1", "bulk", "upkeep")
BYSTANDERS_AT_ONCE, CULPRITS_AT_ONCE = 4, 2
LOAD_SECONDS = 6.0
MOST_TIMES_CONTROL = 2.0
LOOP_BLOCK_MS = 50.0
PROBES_OF_ONE = 3
"""A loop that is held is held each time; what the machine does besides is not."""

OWN_FAULT = 500


@pytest.mark.slow
@pytest.mark.parametrize("heavy", ALL, ids=lambda heavy: heavy.name)
async def test_a_heavy_contract_delays_nobody_else(trials: TrialStack, figures: Figures, heavy: HeavyContract) -> None:
    before, restarts, harmless = trials.log_sizes(), trials.restarts(), heavy.harmless()
    async with Callers.of(trials, "a") as a, Callers.of(trials, "b") as b:
        control = await _beside(b, lambda number: _both_ways(a, harmless, number))
        control_probe_ms = await _worst_probe_ms(b, lambda: a.call({"content": harmless.content}, **harmless.body()))
        beside = await _beside(b, lambda number: _both_ways(a, heavy, number))
        probe_ms = await _worst_probe_ms(b, lambda: a.call({"content": heavy.content}, **heavy.body()))

    times = _p99_seconds(beside) / _p99_seconds(control)
    delay_ms = max(trials.worst_loop_delay_ms(name, since=before) for name in LOADED_PROCESSES)
    figures.note(heavy.name, "bystanders' p99, times the control", times, f"<= {MOST_TIMES_CONTROL}")
    figures.note(heavy.name, "web's loop held by one request, ms", probe_ms, f"<= {LOOP_BLOCK_MS} or the control")
    figures.note(heavy.name, "worst logged delay of workers and upkeep, ms", delay_ms)
    assert all(answer.is_ok for answer in beside), [answer.status for answer in beside if not answer.is_ok]
    assert trials.restarts() == restarts
    assert times <= MOST_TIMES_CONTROL
    assert probe_ms <= max(LOOP_BLOCK_MS, control_probe_ms)


async def test_heavy_contracts_of_each_kind_hold_no_process(trials: TrialStack, figures: Figures) -> None:
    restarts = trials.restarts()

    async with Callers.of(trials, "a") as a, Callers.of(trials, "b") as b:
        culprits = [_both_ways(a, heavy, number) for number, heavy in enumerate(EACH_KIND)]
        heavy = asyncio.gather(*culprits)
        beside = await b.mixed(calls=20, jobs=20, rest_seconds=30.0)
        answers = [answer for pair in await heavy for answer in pair]

    figures.note(f"{len(EACH_KIND)} heavy contracts at once", "bystanders failed", beside.failures, "0")
    assert beside.failures == 0, beside.complaint()
    assert all(answer.status not in {NO_ANSWER, OWN_FAULT} for answer in answers), [one.status for one in answers]
    assert trials.restarts() == restarts


def _p99_seconds(answers: list[Answer]) -> float:
    return percentile([answer.seconds for answer in answers], 0.99)


async def _both_ways(a: Callers, heavy: HeavyContract, number: int) -> tuple[Answer, Answer]:
    """The contract in a synchronous call and in a job; another number is another schema."""
    script, body = {"content": heavy.content}, heavy.body(number)
    return await asyncio.gather(a.call(script, **body), a.submit(script, **body))


async def _beside(b: Callers, culprit: Callable[[int], Awaitable[object]]) -> list[Answer]:
    """Calls of b while the culprit sends without pause."""
    ends_at, answers = time.monotonic() + LOAD_SECONDS, list[Answer]()

    async def bystander() -> None:
        while time.monotonic() < ends_at:
            answers.append(await b.call())

    async def culprit_without_pause(first: int) -> None:
        number = first
        while time.monotonic() < ends_at:
            await culprit(number)
            number += CULPRITS_AT_ONCE

    await asyncio.gather(
        *(bystander() for _ in range(BYSTANDERS_AT_ONCE)),
        *(culprit_without_pause(first) for first in range(CULPRITS_AT_ONCE)),
    )
    return answers


async def _worst_probe_ms(b: Callers, request: Callable[[], Awaitable[object]]) -> float:
    """The longest that /healthz took during one request, at best of a few tries."""
    worst = []
    for _ in range(PROBES_OF_ONE):
        running, longest = asyncio.ensure_future(request()), 0.0
        while not running.done():
            longest = max(longest, (await b.ask("GET", "/healthz")).seconds)
        worst.append(longest * 1000)
    return min(worst)
