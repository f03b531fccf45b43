"""Fixtures that every test folder may ask for: one real Valkey and one real Postgres per process of the test run.

Processes take whole files, so that a file's database and processes exist once; the acceptance tests share one stack.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.home import Home
from stack.servers import EmbeddedServers

TESTS = Path(__file__).resolve().parent


SHARED = ("acceptance",)
"""Folders whose tests run in one process of the test run."""


@pytest.hookimpl(tryfirst=True)  # before the plugin that reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put each test into the group of its file, or of its folder."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        group = folder if folder in SHARED else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


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
