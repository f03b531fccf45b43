"""Fixtures of the tests of stored jobs."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.jobs.writes import JobTable


@pytest.fixture
def table(engine: AsyncEngine) -> JobTable:
    return JobTable(engine, holder="worker-1", lease_seconds=30)
