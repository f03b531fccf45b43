"""What the HTTP door asks of the house behind it, as small protocols; `tasks.wiring` says who answers.

Reads come from storage, everything that changes something goes through tasks.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from schemas.accepted import Accepted, Rested
from schemas.control import Control, Subject
from schemas.ids import AttemptId, BatchId, FileId, JobId, KeyId, ReplayId, TenantId
from schemas.job import NewJob
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.replay import DeadLetters, Estimate, NewReplay, Patch, ReplayOutcomes
from schemas.replay import Replay as StoredReplay
from schemas.states import JobState
from schemas.tenants import TenantShare
from storage.batches.batches import StoredBatch
from storage.batches.files import StoredFile
from storage.batches.progress import BatchSummary
from storage.dead_letters.reads import DeadLetterGroup, DeadLetterView, WholeLetter
from storage.jobs.reads import JobFilter, JobStory, JobView
from storage.ledger.unresolved import SuspenseTotal
from storage.queue.controls import Begun
from storage.tenancy.keys import StoredKey
from tasks.dead_letters.export_format import Reader
from tasks.dead_letters.importing import Imported
from tasks.execution.deps import OnChunk
from tasks.ledger.reprice import Round
from tasks.quotes.quote import Quoted
from tasks.requests import chat as requests


class Intake(Protocol):
    """The way in."""

    async def submit(self, job: NewJob) -> Accepted:
        """Make a job durable. Raises IdempotencyConflict."""

    async def complete(self, job: NewJob, on_chunk: OnChunk | None = None) -> Rested:
        """Run a job in this process and wait for its end. Raises RedisUnavailable."""

    async def cancel(self, job_id: JobId, tenant_id: TenantId | None) -> bool:
        """Cancel a job that is not at rest; False where there is none."""

    async def create_batch(
        self,
        tenant_id: TenantId,
        input_file_id: FileId,
        *,
        endpoint: str,
        completion_window: str,
        metadata: dict[str, str] | None,
        lane: Lane,
        lanes: frozenset[Lane] | None = None,
    ) -> StoredBatch:
        """Store a batch whose file will be read by upkeep. Raises InvalidRequest and NotFound."""

    async def cancel_batch(self, batch_id: BatchId, tenant_id: TenantId) -> bool:
        """Stop a batch; False where there is none that could be stopped."""


class JobReads(Protocol):
    """Jobs as they are told of."""

    async def jobs(self, tenant_id: TenantId, wanted: JobFilter) -> Sequence[JobView]:
        """Jobs of a tenant, newest first."""

    async def story(self, job_id: JobId, tenant_id: TenantId) -> JobStory | None:
        """A job with all its attempts."""

    async def summary(self, batch_id: BatchId, tenant_id: TenantId) -> BatchSummary:
        """Counts over the jobs of a batch."""


class DeadLetterReads(Protocol):
    """Dead letters as they are told of; a tenant of None is the operator's view of all."""

    async def newest(
        self, which: DeadLetters, *, after: JobId | None = None, most: int = 50
    ) -> Sequence[DeadLetterView]:
        """The latest dead first."""

    async def groups(self, which: DeadLetters) -> Sequence[DeadLetterGroup]:
        """What they died of, the most frequent first."""

    def whole(self, which: DeadLetters) -> AsyncIterator[WholeLetter]:
        """Each of them with its request and its attempts."""


class Files(Protocol):
    """Files of tenants, streamed in and out."""

    async def write(
        self,
        file_id: FileId,
        tenant_id: TenantId,
        parts: AsyncIterator[bytes],
        *,
        filename: str,
        purpose: str,
        expires_at: datetime | None = None,
    ) -> StoredFile:
        """Store a stream; one that raises leaves nothing behind."""

    async def find(self, file_id: FileId, tenant_id: TenantId) -> StoredFile | None:
        """A complete file of this tenant."""

    async def newest(
        self, tenant_id: TenantId, *, after: FileId | None = None, most: int = 100, purpose: str | None = None
    ) -> Sequence[StoredFile]:
        """Files of a tenant, newest first."""

    def content(self, file_id: FileId) -> AsyncIterator[bytes]:
        """The bytes, piece by piece."""

    async def delete(self, file_id: FileId, tenant_id: TenantId | None) -> bool:
        """Remove a file; False where there is none."""


class Batches(Protocol):
    """Batches as they are told of."""

    async def find(self, batch_id: BatchId, tenant_id: TenantId) -> StoredBatch | None:
        """A batch of this tenant, counted now."""

    async def newest(self, tenant_id: TenantId, *, after: BatchId | None, most: int) -> Sequence[StoredBatch]:
        """Batches of a tenant, newest first."""


class StopLosses(Protocol):
    """Batches that wait behind their canary."""

    async def proceed(self, batch_id: BatchId, tenant_id: TenantId) -> bool:
        """Let the rest run; False where nothing is held."""


class Keys(Protocol):
    """API keys."""

    async def create(self, key_id: KeyId, secret: str, tenant_id: TenantId, scopes: Sequence[str]) -> StoredKey:
        """Let this secret in."""

    async def find(self, secret: str) -> StoredKey | None:
        """The key with this secret, unless it was revoked."""

    async def all(self) -> Sequence[StoredKey]:
        """Every key."""

    async def revoke(self, key_id: KeyId) -> bool:
        """Let this key in no more; False where there is none."""

    async def tenants(self) -> frozenset[str]:
        """The tenants that exist."""


class Replay(Protocol):
    """Dead letters back to work, or put aside. An owner of None is the operator."""

    async def start(self, replay: NewReplay) -> StoredReplay:
        """Begin a replay. Raises IdempotencyConflict."""

    async def replay_now(self, replay: NewReplay) -> list[JobId]:
        """Replay those that are meant and wait for it; returns their ids."""

    async def find(self, replay_id: ReplayId, owner_id: TenantId | None) -> StoredReplay | None:
        """A replay of this owner."""

    async def newest(self, owner_id: TenantId | None, *, after: ReplayId | None, most: int) -> Sequence[StoredReplay]:
        """Replays of this owner, newest first."""

    async def outcomes(self, replay_id: ReplayId) -> ReplayOutcomes:
        """What became of its jobs."""

    async def cancel(self, replay_id: ReplayId, owner_id: TenantId | None) -> bool:
        """Stop it; False where nothing can be stopped."""

    async def resume(self, replay_id: ReplayId, owner_id: TenantId | None) -> bool:
        """Go on although its canaries failed; False where it is not stopped."""

    async def discard(self, which: DeadLetters) -> list[JobId]:
        """Put those that are meant aside; returns their ids."""


class Prices(Protocol):
    """What a replay may cost."""

    async def estimate(self, which: DeadLetters, patch: Patch, now: datetime) -> Estimate:
        """Count and price what a replay would move."""


class Quotes(Protocol):
    """What requests may cost, before anything is sent. Raise InvalidRequest and RedisUnavailable."""

    async def request(self, job: NewJob) -> Quoted:
        """Quote one request."""

    async def file(self, tenant_id: TenantId, file_id: FileId) -> Quoted:
        """Quote every line of a batch file."""


class Imports(Protocol):
    """Dead letters from elsewhere."""

    async def take(
        self, lines: AsyncIterator[bytes], reader: Reader, now: datetime, *, first_line: int = 1, dry_run: bool = False
    ) -> Imported:
        """Store the letter of each line, or of none. Raises InvalidRequest with the lines that are wrong."""


class Watch(Protocol):
    """What Redis and the effective configuration say now; for operators and for readiness."""

    async def check(self) -> Mapping[str, str | None]:
        """Name of each thing that work needs, and what is wrong with it."""

    async def limits(self) -> Sequence[JsonObject]:
        """Per target and limit: configured, learned, effective, used, and who waits. Raises RedisUnavailable."""

    async def budgets(self) -> Sequence[JsonObject]:
        """Per scope and window: limit, settled, reserved. Raises RedisUnavailable."""

    async def suspense(self) -> Sequence[SuspenseTotal]:
        """How much lies in suspense, by account. Raises PostgresUnavailable."""

    async def thresholds(self) -> Mapping[tuple[str, int], int]:
        """How often each scope has passed each percentage. Raises PostgresUnavailable."""

    async def depths(self) -> Mapping[tuple[Lane, JobState], int]:
        """How many jobs are not at rest, by lane and state. Raises PostgresUnavailable."""


class Accounts(Protocol):
    """The operator's hand on accounts at providers."""

    async def open(self, account: str) -> JsonObject:
        """Let calls through to a stopped one again. Raises NotFound and RedisUnavailable."""


class Treasury(Protocol):
    """The operator's hand on the money."""

    async def set_budget(self, given: JsonObject) -> JsonObject:
        """Change one budget. Raises InvalidRequest."""

    async def report(
        self, by: Sequence[str], *, days: int, zone: str = "UTC", tenant_id: TenantId | None = None
    ) -> Sequence[JsonObject]:
        """What the last days have cost, and what of it bought nothing. Raises InvalidRequest."""


class Repricing(Protocol):
    """History under the prices of now."""

    async def round(self, *, since: datetime, model: str | None, after: str = "", dry_run: bool = False) -> Round:
        """Price the next attempts again, and book what differs."""


class Suspense(Protocol):
    """Calls that may have been billed."""

    async def oldest(self, *, after: AttemptId | None, most: int) -> Sequence[JsonObject]:
        """What is held back and why, and who will resolve it when, the oldest first."""

    async def resolve(self, attempt_id: AttemptId, billed_usd: str | float | None) -> JsonObject:
        """An operator's word on one; None gives it back. Raises NotFound and InvalidRequest."""


class Controls(Protocol):
    """Work under way, to be paused, moved or cancelled. All raise NotFound for what does not exist."""

    async def pause(self, subject: Subject) -> Begun:
        """Let nothing more of it start."""

    async def resume(self, subject: Subject) -> Control:
        """Let it start again."""

    async def move(self, subject: Subject, lane: Lane) -> Begun:
        """Put what waits of it into another lane."""

    async def cancel(self, subject: Subject) -> Begun:
        """Rest what waits of it as cancelled."""

    async def all(self) -> Sequence[Control]:
        """What is in force, the oldest first."""


class Quotas(Protocol):
    """What tenants may store."""

    async def room_for_jobs(self, tenant_id: TenantId) -> None:
        """Raises QuotaReached where the tenant may have no more open jobs."""

    def counted(self, tenant_id: TenantId, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same bytes, counted as they pass. Raises StorageFull at the one that is too many."""


class Tenants(Protocol):
    """What each tenant may have and uses."""

    async def all(self) -> Sequence[JsonObject]:
        """One row per tenant. Raises RedisUnavailable and PostgresUnavailable."""

    async def set_share(self, name: str, given: JsonObject) -> JsonObject:
        """Replace the limits of one tenant, or of all others under `*`. Raises InvalidRequest."""


class Vocabulary(requests.Vocabulary, Protocol):
    """What reading a request has to know, and what of its contract is not checked here."""

    def unchecked(self, schema: JsonObject) -> Sequence[str]:
        """Parts of a usable schema that only the provider gets."""


class House(Protocol):
    """All of it."""

    def share(self, tenant_id: TenantId) -> TenantShare:
        """What a tenant may have."""

    @property
    def quotas(self) -> Quotas:
        """What tenants may store."""

    @property
    def tenants(self) -> Tenants:
        """What tenants may have and use, for operators."""

    @property
    def vocabulary(self) -> Vocabulary:
        """What parsing a request has to know."""

    @property
    def intake(self) -> Intake:
        """The way in."""

    @property
    def reads(self) -> JobReads:
        """Jobs."""

    @property
    def dead_letters(self) -> DeadLetterReads:
        """Dead letters, to look at."""

    @property
    def files(self) -> Files:
        """Files."""

    @property
    def batches(self) -> Batches:
        """Batches."""

    @property
    def stop_losses(self) -> StopLosses:
        """Batches that wait behind their canary."""

    @property
    def keys(self) -> Keys:
        """Keys."""

    @property
    def replay(self) -> Replay:
        """Dead letters, to move."""

    @property
    def prices(self) -> Prices:
        """What moving them may cost."""

    @property
    def quotes(self) -> Quotes:
        """What requests may cost."""

    @property
    def imports(self) -> Imports:
        """Dead letters from elsewhere."""

    @property
    def controls(self) -> Controls:
        """Work under way, to be stopped or moved."""

    @property
    def accounts(self) -> Accounts:
        """Accounts at providers, to be opened again."""

    @property
    def treasury(self) -> Treasury:
        """Budgets to change, and what was spent."""

    @property
    def suspense(self) -> Suspense:
        """Calls that may have been billed."""

    @property
    def repricing(self) -> Repricing:
        """History under the prices of now."""

    @property
    def watch(self) -> Watch:
        """Limits, budgets, readiness."""
