"""Stores results in Celery's format in the broker's Redis, until `result_expires`."""

import asyncio
from typing import Any

from celery import Celery, states
from celery.backends.redis import RedisBackend
from celery.exceptions import BackendStoreError, TaskRevokedError
from kombu.exceptions import OperationalError

from schemas.errors import RedisUnavailable

OTHERS = (BackendStoreError, OperationalError, OSError)
"""Further errors of Celery when a result could not be stored."""


class ResultBackend:
    """Stores results of `completions.submit` and `completions.complete`."""

    def __init__(self, app: Celery) -> None:
        self._backend = RedisBackend(app=app, url=app.conf.broker_url)

    async def succeed(self, task_id: str, value: Any) -> None:  # noqa: ANN401 - whatever JSON can carry
        """Store a value. Raises RedisUnavailable."""
        await self._store(task_id, value, states.SUCCESS)

    async def fail(self, task_id: str, error: Exception) -> None:
        """Store an error's name and message. Raises RedisUnavailable."""
        await self._store(task_id, error, states.FAILURE)

    async def revoke(self, task_id: str, reason: str) -> None:
        """Make the caller's `get` raise TaskRevokedError. Raises RedisUnavailable."""
        await self._store(task_id, TaskRevokedError(reason), states.REVOKED)

    async def _store(self, task_id: str, result: object, state: str) -> None:
        try:
            await asyncio.to_thread(self._backend.store_result, task_id, result, state)
        except (*self._backend.connection_errors, *self._backend.channel_errors, *OTHERS) as error:
            raise RedisUnavailable from error

    async def aclose(self) -> None:
        """Close the connections."""
        await asyncio.to_thread(self._backend.client.close)
