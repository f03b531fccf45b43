"""Fixtures of the integration tests: a database of its own for each test module, at the newest migration."""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from enum import IntEnum

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.database.engine import open_engine
from storage.database.schema import migrate


class RedisNumber(IntEnum):
    """Redis' databases that tests have to themselves, because others count in its first one."""

    DOOR = 8
    WORKERS = 9
    SUSPENSE = 12
    UNREAD = 13

    def of(self, redis_url: str) -> str:
        """The address of this database on the server of that one."""
        base, _, _ = redis_url.rpartition("/")
        return f"{base}/{self}"


@contextmanager
def empty_database(database_url: str) -> Iterator[str]:
    """A database of its own beside this one, before the first migration; gone at the end."""
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    base, _, _ = database_url.rpartition("/")
    try:
        yield f"{base}/{name}"
    finally:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def fresh_database(database_url: str) -> Iterator[str]:
    """The same at the newest migration."""
    with empty_database(database_url) as url:
        migrate(url)
        yield url


@pytest.fixture(scope="module")
def fresh_database_url(database_url: str) -> Iterator[str]:
    with fresh_database(database_url) as url:
        yield url


@pytest.fixture
async def engine(fresh_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(fresh_database_url, application="tests")
    yield engine
    await engine.dispose()
