"""A value that cannot be stored or judged is its own request's trouble alone."""

import asyncio

import pytest

from tests.support.figures import Figures
from tests.support.odd_values import ALL, EACH_KIND, OddValue
from tests.support.trial_callers import Callers, Load
from tests.support.trial_stack import TrialStack

BYSTANDERS, CULPRIT_CALLS, CULPRIT_JOBS = 200, 30, 15
SHORT_BYSTANDERS, SHORT_CULPRITS = 60, 6
REST_SECONDS, SHORT_REST_SECONDS = 120.0, 30.0
OWN_FAULT = 500
"""The status of a bug of ours, which no value may cause."""


@pytest.mark.slow
@pytest.mark.parametrize("value", ALL, ids=lambda value: value.name)
async def test_an_odd_value_fails_nobody_else(trials: TrialStack, figures: Figures, value: OddValue) -> None:
    async with Callers.of(trials, "a") as a, Callers.of(trials, "b") as b:
        beside, culprit = await asyncio.gather(
            b.mixed(calls=BYSTANDERS, jobs=BYSTANDERS, rest_seconds=REST_SECONDS), _sent(a, value, REST_SECONDS)
        )

    _note(figures, value.name, beside, [culprit])
    assert (beside.failures, beside.paid_twice) == (0, 0), beside.complaint()
    assert_ended_by_itself(value, culprit)


async def test_odd_values_of_each_kind_fail_nobody_else(trials: TrialStack, figures: Figures) -> None:
    async with Callers.of(trials, "a") as a, Callers.of(trials, "b") as b:
        beside, *culprits = await asyncio.gather(
            b.mixed(calls=SHORT_BYSTANDERS, jobs=SHORT_BYSTANDERS, rest_seconds=SHORT_REST_SECONDS),
            *(
                _sent(a, value, SHORT_REST_SECONDS, calls=SHORT_CULPRITS, jobs=SHORT_CULPRITS // 2)
                for value in EACH_KIND
            ),
        )

    _note(figures, f"{len(EACH_KIND)} odd values at once", beside, culprits)
    assert (beside.failures, beside.paid_twice) == (0, 0), beside.complaint()
    for value, culprit in zip(EACH_KIND, culprits, strict=True):
        assert_ended_by_itself(value, culprit)


def assert_ended_by_itself(value: OddValue, culprit: Load) -> None:
    """Paid no more often than it may be, and completed, refused or dead with a reason."""
    answers = [*culprit.calls, *culprit.accepted]
    assert all(answer.status not in {0, OWN_FAULT} for answer in answers), (value.name, culprit.complaint())
    assert all(times <= value.most_paid for times in culprit.paid.values()), (value.name, culprit.paid)
    for job in culprit.jobs:
        assert job.state == "completed" or (job.state == "dead" and job.dead_reason), (value.name, job)


async def _sent(
    a: Callers, value: OddValue, rest_seconds: float, *, calls: int = CULPRIT_CALLS, jobs: int = CULPRIT_JOBS
) -> Load:
    return await a.mixed(calls=calls, jobs=jobs, script=value.script, rest_seconds=rest_seconds, **value.body)


def _note(figures: Figures, name: str, beside: Load, culprits: list[Load]) -> None:
    most = max((times for load in culprits for times in load.paid.values()), default=0)
    figures.note(name, "bystanders failed, bystanders paid twice", (beside.failures, beside.paid_twice), "(0, 0)")
    figures.note(name, "culprit paid at most", most, "1, or 3 with reprompts")
