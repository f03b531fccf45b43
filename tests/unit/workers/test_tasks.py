from collections.abc import Awaitable, Callable

import pytest
from celery.exceptions import Reject

from schemas.errors import InvalidRequest, PostgresUnavailable
from workers.tasks import PAUSES_SECONDS, _patiently

NO_PAUSES = (0.0, 0.0)


def failing(times: int, error: Exception) -> tuple[Callable[[], Awaitable[str]], list[int]]:
    """A step that fails so often, and the numbers of its calls."""
    calls: list[int] = []

    async def step() -> str:
        calls.append(len(calls) + 1)
        if len(calls) <= times:
            raise error
        return "done"

    return step, calls


async def test_a_step_is_taken_again_while_a_store_is_away() -> None:
    step, calls = failing(2, PostgresUnavailable())

    assert await _patiently(step, NO_PAUSES) == "done"
    assert calls == [1, 2, 3]


async def test_a_callers_message_goes_back_to_its_queue_rather_than_be_lost() -> None:
    step, calls = failing(9, PostgresUnavailable())

    with pytest.raises(Reject) as returned:
        await _patiently(step, NO_PAUSES)

    assert returned.value.requeue
    assert calls == [1, 2, 3]


async def test_what_the_caller_must_change_is_not_tried_again() -> None:
    step, calls = failing(9, InvalidRequest())

    with pytest.raises(InvalidRequest):
        await _patiently(step, NO_PAUSES)

    assert calls == [1]


def test_patience_ends_long_before_the_message_would_be_delivered_again() -> None:
    assert 5 < sum(PAUSES_SECONDS) < 60
