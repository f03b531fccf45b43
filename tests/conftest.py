"""Fixtures that every test folder may ask for: one real Valkey and one real Postgres per test run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.home import Home
from stack.servers import EmbeddedServers


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """Start both embedded servers in a home of their own; stop them when the run ends."""
    home = Home(Path(tmp_path_factory.mktemp("home")))
    with EmbeddedServers.started(home) as running:
        yield running


@pytest.fixture(scope="session")
def redis_url(servers: EmbeddedServers) -> str:
    return servers.redis_url


@pytest.fixture(scope="session")
def database_url(servers: EmbeddedServers) -> str:
    """Of the superuser: tests make databases of their own."""
    return servers.bootstrap_url
