"""Fixtures that every test folder may ask for: one real Valkey and one real Postgres per process of the test run.

Processes take whole files, so that a file's database and processes exist once; the acceptance tests share one stack,
and so do the trials.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from stack.home import Home
from stack.servers import EmbeddedServers

SHARED = ("tests/acceptance/", "tests/integration/api/", "tests/trials/")
"""Folders whose tests share one stack, and so run in one process of the test run."""


class FolderScheduling(LoadScopeScheduling):
    """Gives whole files to the processes of a test run, and the folders of `SHARED` as a whole."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in SHARED if file.startswith(folder)), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FolderScheduling:
    return FolderScheduling(config, log)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """Start both embedded servers in a home of their own; stop them when the run ends."""
    home = Home(Path(tmp_path_factory.mktemp("home")))
    with EmbeddedServers.started(home) as running:
        yield running


@pytest.fixture(scope="session")
def redis_url(servers: EmbeddedServers) -> str:
    return servers.valkey.url


@pytest.fixture(scope="session")
def database_url(servers: EmbeddedServers) -> str:
    """Of the superuser: tests make databases of their own."""
    return servers.postgres.bootstrap_url
