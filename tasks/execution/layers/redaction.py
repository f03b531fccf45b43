"""Drops prompts and replies from attempts when `privacy.store_content = false`.

The job's own request and result stay: they are the work. A complaint keeps its path and rule without the quoted value;
an error keeps its kind, status and code.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from schemas.attempt import ClosedAttempt, OpenedAttempt
from schemas.decision import DeadLetter, Decision
from schemas.fingerprint import cause_of, without_values
from schemas.ids import JobId
from schemas.job import Lease, LeasedJob
from schemas.jsons import JsonObject
from tasks.execution.deps import Jobs


class DiscreetJobs:
    """`tasks.execution.deps.Jobs` that stores no content of calls."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def hold(self, job_id: JobId, generation: int) -> LeasedJob | None:
        """Claim the job."""
        return await self._jobs.hold(job_id, generation)

    async def open(self, attempt: OpenedAttempt) -> bool:
        """Store the attempt without its request."""
        return await self._jobs.open(replace(attempt, request=None))

    async def record(self, lease: Lease, closed: ClosedAttempt | None, decision: Decision) -> bool:
        """Write outcome and decision without the reply and without quoted values."""
        return await self._jobs.record(lease, closed and _discreet(closed), _discreet_decision(decision))

    async def suspended(self, job_id: JobId) -> Sequence[OpenedAttempt]:
        """The job's attempts with unresolved charges."""
        return await self._jobs.suspended(job_id)

    async def hand_back(self, lease: Lease) -> bool:
        """Release the lease at once."""
        return await self._jobs.hand_back(lease)

    def renewing(self, lease: Lease) -> AbstractAsyncContextManager[None]:
        """Renew the lease while the block runs."""
        return self._jobs.renewing(lease)


def _discreet(closed: ClosedAttempt) -> ClosedAttempt:
    complaint = closed.complaint and without_values(closed.complaint)
    return replace(closed, reply=None, complaint=complaint, error=closed.error and _discreet_error(closed.error))


def _discreet_error(error: JsonObject) -> JsonObject:
    message = error.get("message")
    return error | {"message": message and without_values(str(message)), "partial_text": None}


def _discreet_decision(decision: Decision) -> Decision:
    if not isinstance(decision, DeadLetter):
        return decision
    return replace(decision, message=cause_of(decision.reason.value, decision.message).words)
