"""Runs both embedded servers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from stack.home import Home
from stack.postgres import Postgres
from stack.valkey import Valkey


class EmbeddedServers:
    """A running Valkey and a running Postgres."""

    def __init__(self, *, valkey: Valkey, postgres: Postgres) -> None:
        self.valkey = valkey
        self.postgres = postgres

    @property
    def redis_url(self) -> str:
        """`redis://…`, with its password."""
        return self.valkey.url

    @property
    def database_url(self) -> str:
        """`postgresql://…`, with its password and without a driver."""
        return self.postgres.url

    @property
    def bootstrap_url(self) -> str:
        """The superuser's address."""
        return self.postgres.bootstrap_url

    @classmethod
    @contextmanager
    def started(cls, home: Home, *, env: Mapping[str, str] | None = None) -> Iterator["EmbeddedServers"]:
        """Run both in a locked home until the end of the block."""
        valkey, postgres = Valkey(home, env=env), Postgres(home, env=env)
        with home.locked(), valkey.running(), postgres.running():
            yield cls(valkey=valkey, postgres=postgres)
