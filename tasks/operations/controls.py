"""Pause, resume, move and cancel: the operator's words, checked and put in force. They survive every restart.

Each takes effect with its commit, whatever the number of jobs. Calls under way are never interrupted by a pause; a
cancelled job that is being called ends there, other jobs under way may finish. Synchronous calls are their caller's.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from schemas.control import Control, Kind, Subject
from schemas.errors import InvalidRequest, NotFound, UnknownModel
from schemas.ids import JobId, TenantId
from schemas.lanes import Lane
from storage.queue.controls import ControlStarted


class ControlRows(Protocol):
    """Where the operator's words are kept."""

    async def pause(self, subject: Subject) -> ControlStarted:
        """Let nothing more of it start."""

    async def resume(self, subject: Subject) -> Control | None:
        """Let it start again."""

    async def move(self, subject: Subject, lane: Lane) -> ControlStarted:
        """Put what waits of it into another lane."""

    async def cancel(self, subject: Subject) -> ControlStarted:
        """Rest what waits of it as cancelled."""

    async def all(self) -> list[Control]:
        """Everything that is in force."""

    async def exists(self, subject: Subject) -> bool:
        """Whether there is, or has been, a job by this name."""


class Controls:
    """The operator's hand on the backlog. `chain` raises UnknownModel, `cancel_job` ends a job that runs."""

    def __init__(
        self,
        rows: ControlRows,
        *,
        chain: Callable[[str], object],
        cancel_job: Callable[[JobId, TenantId | None], Awaitable[bool]],
    ) -> None:
        self._rows = rows
        self._chain = chain
        self._cancel_job = cancel_job

    async def pause(self, subject: Subject) -> ControlStarted:
        """Let nothing more of it start until it is resumed. Safe to call twice. Raises NotFound."""
        await self._check(subject)
        return await self._rows.pause(subject)

    async def resume(self, subject: Subject) -> Control:
        """Let it start again. Raises NotFound where it is not paused."""
        resumed = await self._rows.resume(subject)
        if resumed is None:
            raise NotFound(f"The {subject.kind} '{subject.name}' is not paused.", param="name")
        return resumed

    async def move(self, subject: Subject, lane: Lane) -> ControlStarted:
        """Put what waits of it into another lane; what comes later takes its own. Raises NotFound."""
        await self._check_movable(subject)
        return await self._rows.move(subject, lane)

    async def cancel(self, subject: Subject) -> ControlStarted:
        """Rest what waits of it as cancelled; what comes later is not. Raises NotFound."""
        await self._check_movable(subject)
        begun = await self._rows.cancel(subject)
        if subject.kind is Kind.JOB:
            await self._cancel_job(JobId(subject.name), None)
        return begun

    async def all(self) -> Sequence[Control]:
        """Everything that is in force, the oldest first."""
        return await self._rows.all()

    async def _check_movable(self, subject: Subject) -> None:
        if subject.kind is Kind.LANE:
            raise InvalidRequest("A lane can be paused and resumed; name a job, batch, tenant or model.", param="kind")
        await self._check(subject)

    async def _check(self, subject: Subject) -> None:
        if subject.kind is Kind.MODEL and self._is_configured(subject.name):
            return
        if not await self._rows.exists(subject):
            raise NotFound(f"There is no {subject.kind} '{subject.name}'.", param="name")

    def _is_configured(self, model: str) -> bool:
        try:
            self._chain(model)
        except UnknownModel:
            return False
        return True
