"""Pauses, resumes, moves and cancels queued work for operators.

Each control takes effect with its commit. Only cancelling a single job also ends its call. Synchronous calls are not
controlled.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.control import Control, Kind, Subject
from schemas.errors import InvalidRequest, NotFound, UnknownModel
from schemas.ids import JobId, TenantId
from schemas.lanes import Lane
from storage.queue.controls import ControlStarted


class ControlRows(Protocol):
    """Stores controls."""

    async def pause(self, subject: Subject) -> ControlStarted:
        """Start no more jobs."""

    async def resume(self, subject: Subject) -> Control | None:
        """Start jobs again; None where not paused."""

    async def move(self, subject: Subject, lane: Lane) -> ControlStarted:
        """Move waiting jobs."""

    async def cancel(self, subject: Subject) -> ControlStarted:
        """Cancel waiting jobs."""

    async def all(self) -> list[Control]:
        """List controls in force."""

    async def exists(self, subject: Subject) -> bool:
        """Tell whether the subject exists or has existed."""


@dataclass(kw_only=True, slots=True)
class Controls:
    """Checks and stores controls. `chain` raises UnknownModel; `cancel_job` ends a running job."""

    rows: ControlRows
    chain: Callable[[str], object]
    cancel_job: Callable[[JobId, TenantId | None], Awaitable[bool]]

    async def pause(self, subject: Subject) -> ControlStarted:
        """Start no more jobs of the subject. Safe to call twice. Raises NotFound."""
        await self._check(subject)
        return await self.rows.pause(subject)

    async def resume(self, subject: Subject) -> Control:
        """Start jobs again. Raises NotFound where not paused."""
        resumed = await self.rows.resume(subject)
        if resumed is None:
            raise NotFound(f"The {subject.kind} '{subject.name}' is not paused.", param="name")
        return resumed

    async def move(self, subject: Subject, lane: Lane) -> ControlStarted:
        """Move waiting jobs, but not later ones. Raises NotFound, and InvalidRequest for a lane."""
        await self._check_movable(subject)
        return await self.rows.move(subject, lane)

    async def cancel(self, subject: Subject) -> ControlStarted:
        """Cancel waiting jobs, but not later ones. Raises NotFound, and InvalidRequest for a lane."""
        await self._check_movable(subject)
        begun = await self.rows.cancel(subject)
        if subject.kind is Kind.JOB:
            await self.cancel_job(JobId(subject.name), None)
        return begun

    async def all(self) -> Sequence[Control]:
        """List controls in force, oldest first."""
        return await self.rows.all()

    async def _check_movable(self, subject: Subject) -> None:
        if subject.kind is Kind.LANE:
            raise InvalidRequest("A lane can be paused and resumed; name a job, batch, tenant or model.", param="kind")
        await self._check(subject)

    async def _check(self, subject: Subject) -> None:
        if subject.kind is Kind.MODEL and self._is_configured(subject.name):
            return
        if not await self.rows.exists(subject):
            raise NotFound(f"There is no {subject.kind} '{subject.name}'.", param="name")

    def _is_configured(self, model: str) -> bool:
        try:
            self.chain(model)
        except UnknownModel:
            return False
        return True
