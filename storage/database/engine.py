"""Opens the pool of connections to Postgres and translates its errors.

`force_custom_plan` plans for actual values: with stale statistics, a generic plan of the group commit costs eight times
as much.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from psycopg.types.array import ListBinaryDumper
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from schemas import jsons
from schemas.errors import PostgresBusy, PostgresCrowded, PostgresFull, PostgresReadOnly, PostgresUnavailable

POOL_SIZE = 8
CONNECT_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_MS = 60_000
DEAD_PEER: Mapping[str, int] = {
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""Detects a vanished server within 10 s, before a lease ends; the kernel's default is 15 minutes. The server detects a
vanished client by the same. In seconds, except `tcp_user_timeout` in milliseconds."""

IDLE_TRANSACTION_TIMEOUT_MS = 10_000
"""The server ends a transaction whose process stands still for so long, because its locks keep the jobs from others."""

POOL_TIMEOUT_SECONDS = 10

BY_SQLSTATE: Mapping[str, type[PostgresUnavailable]] = {
    "53100": PostgresFull,
    "53300": PostgresCrowded,
    "25006": PostgresReadOnly,  # a standby after a failover; some hosts turn a full disk into this
    "25P03": PostgresBusy,  # the transaction stood still for too long
    "57014": PostgresBusy,  # the statement time-out, or an operator who cancelled the statement
    "40001": PostgresBusy,  # serialization failure
    "40P01": PostgresBusy,  # deadlock
    "55P03": PostgresBusy,  # lock time-out
}
UNAVAILABLE_CLASSES = ("08", "53", "57P", "58")
"""SQLSTATE prefixes that no statement causes: connection, resources, shutdown, disk. The driver's classes do not
separate them."""
CROWDED = ("too many clients", "remaining connection slots", "too many connections for")
"""Messages of a full server: libpq passes on no code of a failed login."""


def driver_url(database_url: str) -> str:
    """Replace the URL's scheme by our driver's."""
    _, _, rest = database_url.partition("://")
    return f"postgresql+psycopg://{rest}"


def open_engine(
    database_url: str,
    *,
    application: str,
    pool_size: int = POOL_SIZE,
    pool_timeout_seconds: float = POOL_TIMEOUT_SECONDS,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
    idle_transaction_timeout_ms: int = IDLE_TRANSACTION_TIMEOUT_MS,
) -> AsyncEngine:
    """Open a pool that connects at its first use. `application` is shown by pg_stat_activity."""
    settings = {
        "plan_cache_mode": "force_custom_plan",
        "timezone": "UTC",
        "statement_timeout": statement_timeout_ms,
        "idle_in_transaction_session_timeout": idle_transaction_timeout_ms,
        **{name.replace("keepalives", "tcp_keepalives"): value for name, value in DEAD_PEER.items()},
    }
    engine = create_async_engine(
        driver_url(database_url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_timeout_seconds,
        pool_pre_ping=True,
        hide_parameters=True,  # errors are logged, and these are prompts and replies
        json_deserializer=jsons.parse,  # numbers keep their digits on the way out too
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            **DEAD_PEER,
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
            "application_name": application,
        },
    )
    event.listen(engine.sync_engine, "connect", _send_arrays_in_binary)
    return engine


def _send_arrays_in_binary(connection: Any, _record: object) -> None:  # noqa: ANN401 - SQLAlchemy's adapter
    """Text would escape a group commit's JSON, most of its cost."""
    connection.driver_connection.adapters.register_dumper(list, ListBinaryDumper)


class StatementFailed(Exception):  # noqa: N818 - says what happened
    """Postgres rejects a statement or one of its values.

    It carries no values: the server's message quotes rows of all tenants.
    """

    def __init__(self, kind: str, sqlstate: str | None = None, place: str | None = None) -> None:
        self.kind = kind
        self.sqlstate = sqlstate
        super().__init__(" ".join(part for part in (kind, sqlstate, place) if part))


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Run one transaction. Raises PostgresUnavailable and StatementFailed."""
    with _translated():
        async with engine.begin() as connection:
            yield connection


@asynccontextmanager
async def one_statement(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Run one statement, which is a transaction of its own, without the round trips of BEGIN and COMMIT."""
    with _translated():
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            yield connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        condition = condition_of(error)
        if condition is None:
            raise _without_values(error.orig) from None
        raise condition from error
    except (StatementError, UnicodeError) as error:  # a value that the driver cannot send
        raise _without_values(error) from None
    except (PoolTimeoutError, OSError) as error:  # all connections are busy
        raise PostgresUnavailable from error


def _without_values(error: BaseException | None) -> StatementFailed:
    about = getattr(error, "diag", None)
    names = (getattr(about, name, None) for name in ("table_name", "column_name", "constraint_name"))
    return StatementFailed(type(error).__name__, getattr(error, "sqlstate", None), ".".join(filter(None, names)))


def condition_of(error: DBAPIError) -> PostgresUnavailable | None:
    """Return the error for a server that cannot serve; None where the statement is wrong."""
    code: str | None = getattr(error.orig, "sqlstate", None)
    if code is not None and code in BY_SQLSTATE:
        return BY_SQLSTATE[code]()
    if error.connection_invalidated or (code is not None and code.startswith(UNAVAILABLE_CLASSES)):
        return PostgresUnavailable()
    if code is not None or not isinstance(error, OperationalError):
        return None
    return PostgresCrowded() if any(message in str(error.orig) for message in CROWDED) else PostgresUnavailable()


def dumps(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    """Write JSON for a `json` column; None stays NULL."""
    return None if value is None else jsons.dumps(value).decode()
