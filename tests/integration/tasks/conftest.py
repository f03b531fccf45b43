"""An open room of admission on a clock that tests turn."""

from collections.abc import AsyncIterator

import pytest

from admission.connect import Admission
from tests.support.admission_room import Clock, an_open_room


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def room(redis_url: str, clock: Clock) -> AsyncIterator[Admission]:
    async with an_open_room(redis_url, clock) as room:
        yield room
