"""Writes single jobs in group commits, and waits while Postgres is unavailable.

Waiting replies are neither lost nor paid twice. Writes may be repeated: claims have a name, attempts an id, records a
fence. Exception: a retry within a synchronous caller's lease may count `tries` twice.
"""

import itertools
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from schemas.attempt import ClosedAttempt, OpenedAttempt
from schemas.decision import AskAgain, Decision, WaitInPlace
from schemas.ids import JobId
from schemas.job import Lease, LeasedJob
from storage.database.group_commit import GroupCommitter
from storage.database.outage import OutageRetry
from storage.jobs.claims import Claim
from storage.jobs.record import Record
from storage.jobs.redaction import without_replies, without_request
from storage.jobs.writes import JobTable


class LeaseRenewal(Protocol):
    """Renews the leases of this process."""

    def renewing(self, lease: Lease) -> AbstractAsyncContextManager[None]:
        """Renew the lease during the block; cancels the block when the lease is lost."""

    def stop_renewing(self, lease: Lease) -> None:
        """Stop renewing this lease without cancelling its block."""


class GroupedJobs:
    """Writes the pipeline's jobs; a recorded lease is no longer renewed.

    Without `retry`, calls do not wait for Postgres. Without `store_content`, attempts lack requests and replies.
    """

    def __init__(
        self,
        table: JobTable,
        lease_keeper: LeaseRenewal,
        *,
        retry: OutageRetry | None = None,
        store_content: bool = True,
    ) -> None:
        self._holds = GroupCommitter[Claim, LeasedJob | None](table.hold)
        self._opens = GroupCommitter[OpenedAttempt, bool](table.open)
        self._records = GroupCommitter[Record, bool](table.record)
        self._returns = GroupCommitter[Lease, bool](table.hand_back)
        self._table = table
        self._lease_keeper = lease_keeper
        self._retry = retry or OutageRetry(most_seconds=0.0)
        self._store_content = store_content
        self._claims = itertools.count(1)

    async def hold(self, job_id: JobId, generation: int) -> LeasedJob | None:
        """Claim the job; None when it cannot be claimed."""
        return await self._retry.run(self._holds.submit, Claim(job_id, generation, str(next(self._claims))))

    async def open(self, attempt: OpenedAttempt) -> bool:
        """Store the attempt; False when its epoch, fence or grant is too old."""
        return await self._retry.run(self._opens.submit, attempt if self._store_content else without_request(attempt))

    async def record(self, lease: Lease, closed: ClosedAttempt | None, decision: Decision) -> bool:
        """Write outcome and decision; False when the fence was lost."""
        record = Record(lease=lease, closed=closed, decision=decision)
        fence_held = await self._retry.run(
            self._records.submit, record if self._store_content else without_replies(record)
        )
        if not (fence_held and isinstance(decision, AskAgain | WaitInPlace)):
            self._lease_keeper.stop_renewing(lease)
        return fence_held

    async def suspended(self, job_id: JobId) -> Sequence[OpenedAttempt]:
        """Read the job's unresolved charges, latest first."""
        return await self._retry.run(self._table.suspended, job_id)

    async def hand_back(self, lease: Lease) -> bool:
        """Give up the lease without waiting; False when lost or synchronous."""
        return await self._returns.submit(lease)

    def renewing(self, lease: Lease) -> AbstractAsyncContextManager[None]:
        """Renew the lease during the block."""
        return self._lease_keeper.renewing(lease)
