"""Fixtures of the integration tests: a database of its own for each test module, at the newest migration."""

import uuid
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.engine import open_engine
from storage.schema import migrate


@pytest.fixture(scope="module")
def fresh_database_url(database_url: str) -> Iterator[str]:
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    base, _, _ = database_url.rpartition("/")
    url = f"{base}/{name}"
    migrate(url)
    yield url
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def engine(fresh_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(fresh_database_url, application="tests")
    yield engine
    await engine.dispose()
