"""Wakes dispatch after intake by NOTIFY, without a payload.

Notifications may be lost, so dispatch also sweeps every second.
"""

import asyncio
from collections.abc import Callable

import psycopg
import structlog
from psycopg.conninfo import make_conninfo
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.engine import CONNECT_TIMEOUT_SECONDS, DEAD_PEER
from storage.database.statements import run

log = structlog.get_logger()

CHANNEL = "penstock_work"
RECONNECT_SECONDS = 1.0


async def ring(connection: AsyncConnection) -> None:
    """Wake the listeners when this transaction commits."""
    await run(connection, "SELECT pg_notify(:channel, '')", {"channel": CHANNEL})


async def listen(
    database_url: str, on_ring: Callable[[], None], *, reconnect_seconds: float = RECONNECT_SECONDS
) -> None:
    """Call `on_ring` after each notifying commit and each connect, until cancelled."""
    _, _, rest = database_url.partition("://")
    away = False

    def heard() -> None:
        nonlocal away
        away = False
        on_ring()

    while True:
        try:
            await _listen_once(f"postgresql://{rest}", heard)
        except psycopg.OperationalError as error:
            if not away:
                log.warning("bell_away", reason=str(error).strip())
            away = True
        await asyncio.sleep(reconnect_seconds)


async def _listen_once(url: str, on_ring: Callable[[], None]) -> None:
    async with await psycopg.AsyncConnection.connect(
        make_conninfo(url, connect_timeout=CONNECT_TIMEOUT_SECONDS, application_name="penstock bell", **DEAD_PEER),
        autocommit=True,
    ) as connection:
        await connection.execute(f"LISTEN {CHANNEL}")
        on_ring()  # for notifications missed while disconnected
        async for _ in connection.notifies():
            on_ring()
