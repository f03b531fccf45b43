"""A broker database of its own for each test module; the unacknowledged hash is one per database."""

from collections.abc import Iterator

import pytest

from tests.support.worker_process import Broker

WORKER_DATABASE = 9


@pytest.fixture(scope="module")
def broker(redis_url: str) -> Iterator[Broker]:
    broker = Broker(f"{redis_url.rpartition('/')[0]}/{WORKER_DATABASE}")
    yield broker
    broker.close()
