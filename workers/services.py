"""Declares the services that Celery tasks use; `tasks.wiring` builds them, once per worker process."""

from collections.abc import Sequence
from typing import Protocol

from schemas.accepted import Submission
from schemas.ids import JobId
from tasks.dispatch.publisher import Published
from tasks.intake.celery_messages import CallerMessage


class Results(Protocol):
    """Where callers look for their results."""

    async def succeed(self, task_id: str, value: object) -> None:
        """Raises RedisUnavailable."""

    async def fail(self, task_id: str, error: Exception) -> None:
        """Raises RedisUnavailable."""

    async def revoke(self, task_id: str, reason: str) -> None:
        """Raises RedisUnavailable."""


class WorkerServices(Protocol):
    """Open for as long as the worker's loop runs."""

    async def run(self, published: Published) -> None:
        """Bring a job one lease further. Safe to call twice."""

    async def submit(self, message: CallerMessage) -> Submission:
        """Make a caller's job durable. Raises InvalidRequest, IdempotencyConflict and PostgresUnavailable."""

    async def expect(self, task_id: str, job_id: JobId) -> None:
        """Deliver the job's end to this task id when it rests. Raises PostgresUnavailable."""

    async def cancel(self, task_ids: Sequence[str]) -> int:
        """Cancel the jobs whose end was promised to these task ids; returns how many were not at rest."""

    @property
    def results(self) -> Results:
        """Where callers look for their results."""
