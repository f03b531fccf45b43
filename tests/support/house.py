"""A house for the HTTP door, in memory: it keeps what it is given and completes what it is asked, as scripted."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime

from config.catalogue import Catalogue
from config.settings import Settings
from schemas.accepted import Accepted, Rested
from schemas.control import Control, Subject, Verb
from schemas.errors import IdempotencyConflict, NotFound, PenstockError, UnknownModel
from schemas.ids import AttemptId, BatchId, FileId, JobId, KeyId, ReplayId, TenantId
from schemas.job import NewJob
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.money import ZERO, NanoUsd
from schemas.replay import DeadLetters, Estimate, NewReplay, Patch, Replay, ReplayOutcomes, ReplayState
from schemas.states import JobState
from schemas.stop_loss import Phase
from storage.attempt_views import AttemptView
from storage.batches import StoredBatch
from storage.controls import Begun
from storage.dead_letters import DeadLetterGroup, DeadLetterView, WholeLetter
from storage.files import StoredFile
from storage.keys import StoredKey
from storage.reads import JobFilter, JobStory, JobView
from storage.summaries import BatchSummary
from tasks.batch_terms import checked_endpoint, stop_loss, window_seconds
from tasks.deps import OnChunk
from tasks.letter_lines import Letter, Reader, letter_from
from tasks.letters import Imported
from tasks.quote import Quoted, Totals
from tasks.reprice import Round

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REPLY: JsonObject = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m-1",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "fine"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


def a_chunk(text: str) -> JsonObject:
    """One chunk of a stream."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-1", "choices": [choice]}


class Words:
    """Knows the models small and large, and one schema that is none."""

    def chain(self, model: str) -> object:
        if model not in {"small", "large"}:
            raise UnknownModel(f"The model {model!r} is not configured.", param="model")
        return ()

    def schema_complaint(self, schema: JsonObject) -> str | None:
        return "'type' must be a string" if schema.get("type") == 1 else None


@dataclass
class FakeIntake:
    """Completes with `ends` in turn, after `chunks`; `trouble` is raised instead; waits for `gate` first."""

    jobs: dict[JobId, NewJob] = field(default_factory=dict)
    ends: list[Rested] = field(default_factory=list)
    chunks: list[JsonObject] = field(default_factory=list)
    trouble: Exception | None = None
    late_trouble: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    wait_ms: int = 0
    cancelled: list[JobId] = field(default_factory=list)
    abandoned: int = 0
    batches: dict[BatchId, StoredBatch] = field(default_factory=dict)

    async def submit(self, job: NewJob) -> Accepted:
        self._raise()
        for known in self.jobs.values():
            if job.idempotency_key is not None and known.idempotency_key == job.idempotency_key:
                if known.request_digest != job.request_digest:
                    raise IdempotencyConflict(param="idempotency_key")
                return Accepted(job_id=known.id, state=JobState.QUEUED, generation=0, lane=known.lane, repeated=True)
        self.jobs[job.id] = job
        return Accepted(job_id=job.id, state=JobState.QUEUED, generation=0, lane=job.lane)

    async def complete(self, job: NewJob, on_chunk: OnChunk | None = None) -> Rested:
        self._raise()
        self.jobs[job.id] = job
        self.begun.set()
        try:
            for chunk in self.chunks if on_chunk is not None else []:
                assert on_chunk is not None
                await on_chunk(chunk)
            if self.late_trouble is not None:
                raise self.late_trouble
            await self.gate.wait()
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        end = self.ends.pop(0) if self.ends else a_rest(reply=REPLY, served_by="m-1", wait_ms=self.wait_ms)
        return replace(end, job_id=job.id, lane=job.lane)

    async def cancel(self, job_id: JobId, tenant_id: TenantId | None) -> bool:
        self.cancelled.append(job_id)
        job = self.jobs.get(job_id)
        return job is not None and tenant_id in {None, job.tenant_id}

    async def create_batch(
        self,
        tenant_id: TenantId,
        input_file_id: FileId,
        *,
        endpoint: str,
        completion_window: str,
        metadata: dict[str, str] | None,
        lane: Lane,
    ) -> StoredBatch:
        self._raise()
        batch = StoredBatch(
            id=BatchId(f"batch_{len(self.batches)}"),
            tenant_id=tenant_id,
            endpoint=checked_endpoint(endpoint),
            lane=lane,
            completion_window=completion_window,
            window_seconds=window_seconds(completion_window),
            input_file_id=input_file_id,
            output_file_id=None,
            error_file_id=None,
            status="validating",
            errors=[],
            metadata=metadata,
            total=0,
            created_at=NOW,
            moments={},
            jobs_by_state={},
            stop_loss=stop_loss(metadata),
            phase=stop_loss(metadata).first_phase,
        )
        self.batches[batch.id] = batch
        return batch

    async def cancel_batch(self, batch_id: BatchId, tenant_id: TenantId) -> bool:
        batch = self.batches.get(batch_id)
        if batch is None or batch.tenant_id != tenant_id or batch.status not in {"validating", "in_progress"}:
            return False
        self.batches[batch_id] = replace(batch, status="cancelling")
        return True

    def _raise(self) -> None:
        if self.trouble is not None:
            raise self.trouble


@dataclass
class FakeReads:
    """Jobs that the intake was given; `state` is what they are said to be in."""

    intake: FakeIntake
    state: JobState = JobState.COMPLETED
    trouble: Exception | None = None

    async def jobs(self, tenant_id: TenantId, wanted: JobFilter) -> Sequence[JobView]:
        if self.trouble is not None:
            raise self.trouble
        found = [self._view(job) for job in reversed(self.intake.jobs.values()) if job.tenant_id == tenant_id]
        ids = [view.id for view in found]
        begin = ids.index(wanted.after) + 1 if wanted.after in ids else 0
        return [view for view in found[begin:] if wanted.lane in {None, view.lane}][: wanted.most]

    async def story(self, job_id: JobId, tenant_id: TenantId) -> JobStory | None:
        job = self.intake.jobs.get(job_id)
        if job is None or job.tenant_id != tenant_id:
            return None
        return JobStory(
            job=self._view(job), body=job.body, reply=REPLY, output=None, served_by="m-1", attempts=(an_attempt(),)
        )

    async def summary(self, batch_id: BatchId, tenant_id: TenantId) -> BatchSummary:
        return BatchSummary(
            lanes={"low": 2}, attempts={"valid": 3}, recoveries={"fenced": 1}, dead={"refused": 1}, reprompted=1
        )

    def _view(self, job: NewJob) -> JobView:
        cancelled = job.id in self.intake.cancelled and self.state is not JobState.COMPLETED
        return JobView(
            id=job.id,
            tenant_id=job.tenant_id,
            batch_id=job.batch_id,
            custom_id=job.custom_id,
            lane=job.lane,
            model=job.model,
            state=JobState.CANCELLED if cancelled else self.state,
            tries=0,
            deaths=0,
            wait_reason=None,
            wake_at=None,
            expires_at=job.expires_at,
            dead_reason=None,
            message=None,
            spent_nano_usd=NanoUsd(1_500),
            created_at=NOW,
            rested_at=None,
        )


@dataclass
class FakeDeadLetters:
    """The dead letters of a test, read and moved."""

    letters: list[DeadLetterView] = field(default_factory=list)
    priced: list[Patch] = field(default_factory=list)
    taken: list[Letter] = field(default_factory=list)

    async def newest(
        self, which: DeadLetters, *, after: JobId | None = None, most: int = 50
    ) -> Sequence[DeadLetterView]:
        found = self._meant(which)
        ids = [letter.id for letter in found]
        return found[ids.index(after) + 1 if after in ids else 0 :][:most]

    async def groups(self, which: DeadLetters) -> Sequence[DeadLetterGroup]:
        return [
            DeadLetterGroup(
                fingerprint=letter.fingerprint,
                reason=letter.reason,
                cause=letter.cause,
                model=letter.model,
                jobs=1,
                example=letter.id,
                latest_at=letter.rested_at,
                spent_nano_usd=NanoUsd(7),
            )
            for letter in self._meant(which)
        ]

    async def whole(self, which: DeadLetters) -> AsyncIterator[WholeLetter]:
        for letter in self._meant(which):
            yield WholeLetter(
                letter=letter,
                body={"model": "small", "messages": [{"role": "user", "content": "hi"}]},
                endpoint="/v1/chat/completions",
                user=None,
                contract={"schema": {"type": "object"}, "name": "answer", "strict": True},
                max_tries=5,
                max_reprompts=2,
                max_cost_nano_usd=None,
                attempts=(an_attempt(),),
            )

    async def discard(self, which: DeadLetters) -> list[JobId]:
        moved = self._meant(which)
        self.letters = [letter for letter in self.letters if letter not in moved]
        return [letter.id for letter in moved]

    async def estimate(self, which: DeadLetters, patch: Patch, now: datetime) -> Estimate:
        self.priced.append(patch)
        found = len(self._meant(which))
        price = NanoUsd(found * 1_000_000_000)
        return Estimate(
            jobs=found, priced=found, unpriced=0, refused=0, one_call_nano_usd=price, worst_case_nano_usd=price
        )

    async def take(self, lines: AsyncIterator[bytes], reader: Reader, now: datetime) -> Imported:
        before = len(self.taken)
        number = 0
        async for line in lines:
            number += 1
            self.taken.append(letter_from(line, number, reader, now))
        return Imported(imported=len(self.taken) - before, known=0)

    def _meant(self, which: DeadLetters) -> list[DeadLetterView]:
        return [
            letter
            for letter in self.letters
            if which.tenant_id in {None, letter.tenant_id}
            and (which.ids is None or letter.id in which.ids)
            and which.reason in {None, letter.reason}
            and which.fingerprint in {None, letter.fingerprint}
            and which.batch_id in {None, letter.batch_id}
            and which.model in {None, letter.model}
        ]


@dataclass
class FakeReplays:
    """Replays of these letters: begun, never moved, but for those that are waited for."""

    letters: FakeDeadLetters
    stored: list[Replay] = field(default_factory=list)

    async def start(self, replay: NewReplay) -> Replay:
        facts = {one.name: getattr(replay, one.name) for one in fields(NewReplay)}
        total = len(await self.letters.newest(replay.which, most=10_000))
        begun = Replay(
            **facts,
            state=ReplayState.CANARY if replay.canary else ReplayState.RUNNING,
            detail=None,
            version=0,
            total=total,
            replayed=0,
            refused=0,
            cursor_at=None,
            allowed=1,
            created_at=NOW,
            finished_at=None,
        )
        self.stored.append(begun)
        return begun

    async def replay_now(self, replay: NewReplay) -> list[JobId]:
        await self.start(replay)
        return await self.letters.discard(replay.which)

    async def discard(self, which: DeadLetters) -> list[JobId]:
        return await self.letters.discard(which)

    async def find(self, replay_id: ReplayId, owner_id: TenantId | None) -> Replay | None:
        return next((one for one in await self._of(owner_id) if one.id == replay_id), None)

    async def newest(self, owner_id: TenantId | None, *, after: ReplayId | None, most: int) -> Sequence[Replay]:
        return (await self._of(owner_id))[::-1][:most]

    async def outcomes(self, replay_id: ReplayId) -> ReplayOutcomes:
        return ReplayOutcomes(states={"queued": 1}, canaries={}, refusals=[(JobId("job_9"), "no room")])

    async def cancel(self, replay_id: ReplayId, owner_id: TenantId | None) -> bool:
        return await self._enter(
            replay_id, owner_id, ReplayState.CANCELLED, frozenset({"canary", "running", "stopped"})
        )

    async def resume(self, replay_id: ReplayId, owner_id: TenantId | None) -> bool:
        return await self._enter(replay_id, owner_id, ReplayState.RUNNING, frozenset({"stopped"}))

    async def _enter(
        self, replay_id: ReplayId, owner_id: TenantId | None, state: ReplayState, leaves: frozenset[str]
    ) -> bool:
        found = await self.find(replay_id, owner_id)
        if found is None or found.state not in leaves:
            return False
        self.stored[self.stored.index(found)] = replace(found, state=state)
        return True

    async def _of(self, owner_id: TenantId | None) -> list[Replay]:
        return [one for one in self.stored if owner_id in {None, one.tenant_id}]


@dataclass
class FakeFiles:
    """Files in a dictionary."""

    stored: dict[FileId, tuple[StoredFile, bytes]] = field(default_factory=dict)

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
        data = b"".join([part async for part in parts])
        about = StoredFile(
            id=file_id,
            tenant_id=tenant_id,
            filename=filename,
            purpose=purpose,
            bytes=len(data),
            created_at=NOW,
            expires_at=expires_at,
        )
        self.stored[file_id] = (about, data)
        return about

    async def find(self, file_id: FileId, tenant_id: TenantId) -> StoredFile | None:
        found = self.stored.get(file_id)
        return found[0] if found and found[0].tenant_id == tenant_id else None

    async def newest(
        self, tenant_id: TenantId, *, after: FileId | None = None, most: int = 100, purpose: str | None = None
    ) -> Sequence[StoredFile]:
        found = [about for about, _ in reversed(self.stored.values()) if about.tenant_id == tenant_id]
        ids = [about.id for about in found]
        begin = ids.index(after) + 1 if after in ids else 0
        return [about for about in found[begin:] if purpose in {None, about.purpose}][:most]

    async def content(self, file_id: FileId) -> AsyncIterator[bytes]:
        yield self.stored[file_id][1]

    async def delete(self, file_id: FileId, tenant_id: TenantId | None) -> bool:
        return self.stored.pop(file_id, None) is not None


@dataclass
class FakeBatches:
    """The batches that the intake made."""

    intake: FakeIntake

    async def find(self, batch_id: BatchId, tenant_id: TenantId) -> StoredBatch | None:
        found = self.intake.batches.get(batch_id)
        return found if found and found.tenant_id == tenant_id else None

    async def newest(self, tenant_id: TenantId, *, after: BatchId | None, most: int) -> Sequence[StoredBatch]:
        found = [batch for batch in reversed(self.intake.batches.values()) if batch.tenant_id == tenant_id]
        ids = [batch.id for batch in found]
        return found[ids.index(after) + 1 if after in ids else 0 :][:most]

    async def proceed(self, batch_id: BatchId, tenant_id: TenantId) -> bool:
        found = await self.find(batch_id, tenant_id)
        if found is None or found.phase not in {Phase.CANARY, Phase.HELD}:
            return False
        self.intake.batches[batch_id] = replace(found, phase=Phase.RELEASING)
        return True


@dataclass
class FakeKeys:
    """Keys by secret; `trouble` is what every question meets."""

    by_secret: dict[str, StoredKey] = field(default_factory=dict)
    trouble: PenstockError | None = None

    async def create(self, key_id: KeyId, secret: str, tenant_id: TenantId, scopes: Sequence[str]) -> StoredKey:
        key = StoredKey(
            id=key_id,
            tenant_id=tenant_id,
            prefix=secret[:10],
            scopes=frozenset(scopes),
            created_at=NOW,
            revoked_at=None,
        )
        self.by_secret[secret] = key
        return key

    async def find(self, secret: str) -> StoredKey | None:
        if self.trouble is not None:
            raise self.trouble
        found = self.by_secret.get(secret)
        return found if found and found.revoked_at is None else None

    async def all(self) -> Sequence[StoredKey]:
        return list(self.by_secret.values())

    async def revoke(self, key_id: KeyId) -> bool:
        for secret, key in self.by_secret.items():
            if key.id == key_id and key.revoked_at is None:
                self.by_secret[secret] = replace(key, revoked_at=NOW)
                return True
        return False

    async def tenants(self) -> frozenset[str]:
        return frozenset({"default"})


@dataclass
class FakeTreasury:
    """Remembers the budgets that were set; has spent a quarter of a dollar."""

    given: list[JsonObject] = field(default_factory=list)

    async def set_budget(self, given: JsonObject) -> JsonObject:
        self.given.append(given)
        return {"id": "budget/x", **given}

    async def report(
        self, by: Sequence[str], *, days: int, zone: str = "UTC", tenant_id: TenantId | None = None
    ) -> Sequence[JsonObject]:
        return [dict.fromkeys(by, "x") | {"entries": days, "spent_usd": "0.25", "wasted_usd": "0"}]


@dataclass
class FakeWatch:
    """Everything is well unless `wrong` says otherwise; counts how often it was asked for depths."""

    wrong: dict[str, str | None] = field(default_factory=lambda: {"postgres": None, "redis": None})
    trouble: PenstockError | None = None
    asked: int = 0

    async def check(self) -> Mapping[str, str | None]:
        return self.wrong

    async def limits(self) -> Sequence[JsonObject]:
        if self.trouble is not None:
            raise self.trouble
        return [{"id": "a/m", "target": "a/m", "limit": "requests_per_minute", "configured": 60, "used": 6}]

    async def budgets(self) -> Sequence[JsonObject]:
        if self.trouble is not None:
            raise self.trouble
        amounts = {"limit_usd": "1.000000000", "settled_usd": "0.250000000", "reserved_usd": "0.000000000"}
        return [{"id": "global/2026-01-01", "scope": "global", "window": "2026-01-01"} | amounts]

    async def thresholds(self) -> Mapping[tuple[str, int], int]:
        return {("global", 80): 2}

    async def depths(self) -> Mapping[tuple[Lane, JobState], int]:
        self.asked += 1
        return {(Lane.LOW, JobState.QUEUED): 3}


@dataclass
class FakeRepricing:
    """Two attempts, the second a nano-dollar too cheap; remembers from where it was asked."""

    asked: list[str] = field(default_factory=list)

    async def round(self, *, since: datetime, model: str | None, after: str = "", dry_run: bool = False) -> Round:
        self.asked.append(after)
        found = not after
        return Round(
            checked=2 * found,
            unpriced=0,
            adjusted=int(found),
            adjusted_nano_usd=NanoUsd(found),
            after="att_2" if found else None,
        )


@dataclass
class FakeQuotes:
    """Quotes whatever it is asked at a dollar, and remembers that."""

    asked: list[object] = field(default_factory=list)

    async def request(self, job: NewJob) -> Quoted:
        return self._quoted(job)

    async def file(self, tenant_id: TenantId, file_id: FileId) -> Quoted:
        return self._quoted(file_id)

    def _quoted(self, asked: object) -> Quoted:
        self.asked.append(asked)
        totals = Totals(requests=1, likely_nano_usd=250_000_000, worst_case_nano_usd=1_000_000_000)
        return Quoted(totals=totals, seconds=90.0, held_by="tokens_per_minute")


@dataclass
class FakeControls:
    """Remembers the operator's words; knows every subject but those named `nobody`."""

    said: dict[tuple[Verb, Subject], Control] = field(default_factory=dict)

    async def pause(self, subject: Subject) -> Begun:
        return self._say(Verb.PAUSE, subject)

    async def resume(self, subject: Subject) -> Control:
        found = self.said.pop((Verb.PAUSE, subject), None)
        if found is None:
            raise NotFound
        return found

    async def move(self, subject: Subject, lane: Lane) -> Begun:
        return self._say(Verb.MOVE, subject, lane)

    async def cancel(self, subject: Subject) -> Begun:
        return self._say(Verb.CANCEL, subject)

    async def all(self) -> Sequence[Control]:
        return list(self.said.values())

    def _say(self, verb: Verb, subject: Subject, lane: Lane | None = None) -> Begun:
        if subject.name == "nobody":
            raise NotFound
        control = Control(verb=verb, subject=subject, lane=lane, sweeping=verb is not Verb.PAUSE, created_at=NOW)
        return Begun(control=self.said.setdefault((verb, subject), control), jobs=2)


class FakeHouse:
    """All of it."""

    def __init__(self) -> None:
        self.vocabulary = Words()
        self.intake = FakeIntake()
        self.intake.gate.set()
        self.reads = FakeReads(self.intake)
        self.dead_letters = FakeDeadLetters()
        self.replay = FakeReplays(self.dead_letters)
        self.prices = self.dead_letters
        self.quotes = FakeQuotes()
        self.imports = self.dead_letters
        self.files = FakeFiles()
        self.batches = FakeBatches(self.intake)
        self.stop_losses = self.batches
        self.keys = FakeKeys()
        self.watch = FakeWatch()
        self.treasury = FakeTreasury()
        self.repricing = FakeRepricing()
        self.controls = FakeControls()

    @asynccontextmanager
    async def opened(self, settings: Settings, catalogue: Catalogue) -> AsyncIterator["FakeHouse"]:
        """Open as `tasks.wiring` opens the real one."""
        yield self


def a_rest(state: JobState = JobState.COMPLETED, **changes: object) -> Rested:
    """A job's end, whose id and lane the fake intake replaces."""
    facts: dict[str, object] = {"job_id": JobId("job_0"), "state": state, "lane": Lane.NORMAL}
    return Rested(**(facts | changes))  # type: ignore[arg-type]  # names are checked by the dataclass


def a_letter(number: int, **changes: object) -> DeadLetterView:
    """A dead letter of the default tenant."""
    facts: dict[str, object] = {
        "id": JobId(f"job_{number}"),
        "tenant_id": TenantId("default"),
        "batch_id": None,
        "custom_id": None,
        "lane": Lane.NORMAL,
        "model": "small",
        "reason": "invalid_output",
        "fingerprint": "invalid_output.70ac74515fa9",
        "cause": "price: a string where a number belongs",
        "message": "it is no JSON",
        "tries": 1,
        "attempts": 2,
        "spent_nano_usd": NanoUsd(1_000_000_000),
        "created_at": NOW,
        "rested_at": NOW,
    }
    return DeadLetterView(**(facts | changes))  # type: ignore[arg-type]  # names are checked by the dataclass


def an_attempt() -> AttemptView:
    """An attempt that was answered."""
    return AttemptView(
        id=AttemptId("att_1"),
        account="openai",
        model="m-1",
        state="posted",
        outcome="valid",
        cost_nano_usd=NanoUsd(1_500),
        reserved_nano_usd=ZERO,
        usage={"input_tokens": 3},
        request={"model": "m-1"},
        reply=REPLY,
        error=None,
        recovery="direct",
        complaint=None,
        provider_request_id="req_1",
        latency_ms=12,
        opened_at=NOW,
        closed_at=NOW,
    )
