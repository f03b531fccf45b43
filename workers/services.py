"""Declares the services of Celery tasks, which `tasks.wiring` builds."""

from collections.abc import Sequence
from typing import Protocol

from schemas.accepted import Submission
from schemas.ids import JobId
from schemas.job import Published
from tasks.intake.celery_messages import CallerMessage
from tasks.intake.result_backend import ResultBackend


class WorkerServices(Protocol):
    """Open while the worker's loop runs."""

    async def run(self, published: Published) -> None:
        """Run a job under one lease. Safe to call twice."""

    async def submit(self, message: CallerMessage) -> Submission:
        """Store a caller's job. Raises InvalidRequest, IdempotencyConflict and PostgresUnavailable."""

    async def expect(self, task_id: str, job_id: JobId) -> None:
        """Deliver the job's result to this task id once terminal. Raises PostgresUnavailable."""

    async def cancel(self, task_ids: Sequence[str]) -> int:
        """Cancel the jobs of these task ids; returns how many were not terminal."""

    @property
    def results(self) -> ResultBackend:
        """The results of callers."""
