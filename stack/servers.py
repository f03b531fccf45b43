"""Runs both embedded servers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from stack.home import Home
from stack.postgres import Postgres
from stack.valkey import Valkey


@dataclass(frozen=True, kw_only=True)
class EmbeddedServers:
    """A running Valkey and a running Postgres."""

    valkey: Valkey
    postgres: Postgres

    @classmethod
    @contextmanager
    def started(cls, home: Home, *, env: Mapping[str, str] | None = None) -> Iterator["EmbeddedServers"]:
        """Run both in a locked home until the end of the block."""
        valkey, postgres = Valkey(home, env=env), Postgres(home, env=env)
        with home.locked(), valkey.running(), postgres.running():
            yield cls(valkey=valkey, postgres=postgres)
