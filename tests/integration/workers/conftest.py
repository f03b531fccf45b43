"""A broker database of its own for each test module; the unacknowledged hash is one per database."""

from collections.abc import Iterator

import pytest

from tests.integration.conftest import RedisNumber
from tests.support.worker_process import Broker


@pytest.fixture(scope="module")
def broker(redis_url: str) -> Iterator[Broker]:
    broker = Broker(RedisNumber.WORKERS.of(redis_url))
    yield broker
    broker.close()
