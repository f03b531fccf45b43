"""An open Admission on a clock that tests turn."""

from collections.abc import AsyncIterator

import pytest

from admission.connect import Admission
from tests.support.admission_fixture import Clock, open_admission


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def admission(redis_url: str, clock: Clock) -> AsyncIterator[Admission]:
    async with open_admission(redis_url, clock) as admission:
        yield admission
