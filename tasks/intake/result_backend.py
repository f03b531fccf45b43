"""Results for Celery callers, in Celery's own format, under their own task ids. Off the loop, in a thread.

The caller's result backend is the Redis that is our broker. What was delivered expires after `result_expires`;
delivering twice is harmless, because the second writes the same.
"""

import asyncio
from typing import Any

from celery import Celery, states
from celery.backends.redis import RedisBackend
from celery.exceptions import BackendStoreError, TaskRevokedError
from kombu.exceptions import OperationalError

from schemas.errors import RedisUnavailable

OTHERS = (BackendStoreError, OperationalError, OSError)
"""What else Celery raises when a result could not be stored."""


class ResultBackend:
    """Where callers of `completions.submit` and `completions.complete` look for their results."""

    def __init__(self, app: Celery) -> None:
        self._backend = RedisBackend(app=app, url=app.conf.broker_url)

    async def succeed(self, task_id: str, value: Any) -> None:  # noqa: ANN401 - whatever JSON can carry
        """Let the caller's `get` return the value. Raises RedisUnavailable."""
        await self._store(task_id, value, states.SUCCESS)

    async def fail(self, task_id: str, error: Exception) -> None:
        """Let the caller's `get` raise: an exception of the error's name with its words. Raises RedisUnavailable."""
        await self._store(task_id, error, states.FAILURE)

    async def revoke(self, task_id: str, reason: str) -> None:
        """Let the caller's `get` raise TaskRevokedError. Raises RedisUnavailable."""
        await self._store(task_id, TaskRevokedError(reason), states.REVOKED)

    async def _store(self, task_id: str, result: object, state: str) -> None:
        try:
            await asyncio.to_thread(self._backend.store_result, task_id, result, state)
        except (*self._backend.connection_errors, *self._backend.channel_errors, *OTHERS) as error:
            raise RedisUnavailable from error

    async def aclose(self) -> None:
        """Close its connections."""
        await asyncio.to_thread(self._backend.client.close)
