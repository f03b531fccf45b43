"""Reads batch files, stores their jobs, and writes the result files.

Each step may run twice: jobs are inserted under batch id and custom id, and result files are written before the batch
names them. Each file is read twice, to refuse it whole without holding it in memory.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import partial

import structlog

from schemas.bounds import node_bound
from schemas.errors import Unavailable
from schemas.ids import BatchId, FileId, JobId, TenantId
from schemas.job import NewJob
from schemas.tenants import TenantShare, no_limits
from storage.batches.batches import BatchTable, StoredBatch
from storage.batches.files import FileTable
from storage.jobs.writes import JobTable
from tasks.batches.lines import MAX_LINE_BYTES, MAX_REPORTED_ERRORS, LineError, LineReader, output_line
from tasks.maintenance.items import Isolation, reason_of
from tasks.maintenance.slices import Clock, Slice, Turns, Work
from tasks.requests.chat import Vocabulary
from tasks.requests.new_ids import new_file_id

log = structlog.get_logger()

JOBS_PER_INSERT = 500
MAX_BATCH_LINES = 50_000
MAX_FILE_LINES = 2 * MAX_BATCH_LINES
"""Includes empty lines, which still have to be read."""

RESULT_PURPOSE = "batch_output"

NumberedJob = tuple[int, NewJob]
Insert = Callable[[Sequence[NewJob]], Awaitable[object]]


class LineRefused(Exception):  # noqa: N818 - reads as what became of the line
    """A line of a checked file cannot be stored or read again."""

    def __init__(self, error: LineError) -> None:
        self.error = error
        super().__init__(error.message)


@dataclass
class Batches:
    """Moves batches forward. Every method returns its number of turns."""

    batches: BatchTable
    files: FileTable
    jobs: JobTable
    vocabulary: Vocabulary
    now: Callable[[], datetime]
    new_job_id: Callable[[], JobId]
    share_of: Callable[[TenantId], TenantShare] = no_limits
    max_line_bytes: int = MAX_LINE_BYTES
    clock: Clock = time.monotonic
    _reading: Turns = field(init=False)
    _writing: Turns = field(init=False)

    def __post_init__(self) -> None:
        self._reading = Turns(Isolation("start_batches", end=self._refuse, clock=self.clock), self.clock)
        self._writing = Turns(Isolation("finish_batches", end=self._fail, clock=self.clock), self.clock)

    async def start_new(self) -> int:
        """Continue reading files, one turn per tenant."""
        return await self._reading.round(_works(await self.batches.validating(), self._start))

    async def finish_rested(self) -> int:
        """Continue writing files of batches with only terminal jobs, one turn per tenant."""
        return await self._writing.round(_works(await self.batches.all_at_rest(), self._finish))

    async def aclose(self) -> None:
        """Drop unfinished work; the next leader starts it again."""
        await self._reading.aclose()
        await self._writing.aclose()

    async def _start(self, batch: StoredBatch, turn: Slice) -> None:
        """Lines may name the lanes of both key and tenant."""
        batch = replace(batch, lanes=self.share_of(batch.tenant_id).lanes & batch.lanes)
        total, errors = await self._check(batch, turn)
        if not errors:
            try:
                await self._store(batch, turn)
            except LineRefused as refused:
                errors = [refused.error]
        if errors:
            await self.batches.refuse(batch.id, [asdict(error) for error in errors])
            log.info("batch_refused", batch_id=batch.id, errors=len(errors))
        else:
            await self.batches.start(batch.id, total)
            log.info("batch_started", batch_id=batch.id, jobs=total)

    async def _finish(self, batch: StoredBatch, turn: Slice) -> None:
        output = await self._file(batch, turn, completed=True)
        errors = await self._file(batch, turn, completed=False)
        await self.batches.finish(batch.id, output, errors)
        log.info("batch_finished", batch_id=batch.id)

    async def _check(self, batch: StoredBatch, turn: Slice) -> tuple[int, Sequence[LineError]]:
        total, errors = 0, list[LineError]()
        async for number, read in self._read(batch, turn):
            total += read is not None
            if isinstance(read, LineError):
                errors.append(read)
            if total > MAX_BATCH_LINES or number > MAX_FILE_LINES:
                message = f"A batch may hold at most {MAX_BATCH_LINES} requests, and {MAX_FILE_LINES} lines in all."
                errors = [LineError(code="too_many_requests", message=message, line=number)]
                break
            if len(errors) >= MAX_REPORTED_ERRORS:
                break
            if turn.is_over:
                await turn.end()
        if total == 0 and not errors:
            errors.append(LineError(code="empty_file", message="The input file holds no requests.", line=1))
        return total, errors

    async def _store(self, batch: StoredBatch, turn: Slice) -> None:
        """Raises LineRefused."""
        waiting, stored = list[NumberedJob](), 0
        async for number, read in self._read(batch, turn):
            if isinstance(read, LineError):  # valid when checked: a lane was closed or a model removed meanwhile
                raise LineRefused(read)
            if read is not None:
                waiting.append((number, read))
            if len(waiting) >= JOBS_PER_INSERT or len(waiting) + stored == batch.stop_loss.canary or turn.is_over:
                await self._insert(batch, waiting, stored)
                stored += len(waiting)
                waiting.clear()
            if turn.is_over:
                await turn.end()
        await self._insert(batch, waiting, stored)

    async def _insert(self, batch: StoredBatch, jobs: Sequence[NumberedJob], stored: int) -> None:
        """Store jobs together, else one by one. Raises LineRefused."""
        canary = batch.stop_loss.canary
        insert = partial(self.jobs.insert, held=canary is not None and stored >= canary)
        if not jobs:
            return
        try:
            await insert([job for _, job in jobs])
        except Unavailable:
            raise
        except Exception:  # one line's value, or a bug: the batch reports which line it was
            log.exception("batch_lines_not_stored", batch_id=batch.id, first_line=jobs[0][0])
            for number, job in jobs:
                await self._insert_job(number, job, insert)

    async def _insert_job(self, number: int, job: NewJob, insert: Insert) -> None:
        try:
            await insert([job])
        except Unavailable:
            raise
        except Exception as error:
            message = f"This line cannot be stored. {reason_of(error)}"
            raise LineRefused(LineError(code="cannot_be_stored", message=message, line=number)) from error

    async def _read(self, batch: StoredBatch, turn: Slice) -> AsyncIterator[tuple[int, NewJob | LineError | None]]:
        """Yield every line; an empty one is None."""
        reader = LineReader(batch, self.vocabulary, self.now(), self.new_job_id, self.max_line_bytes)
        number = 0
        async for line in self.files.lines(batch.input_file_id, most_bytes=self.max_line_bytes):
            number += 1
            turn.use(size_bytes=len(line) + 1, nodes=node_bound(line))
            yield number, reader.read(number, line)

    async def _file(self, batch: StoredBatch, turn: Slice, *, completed: bool) -> FileId | None:
        name = f"{batch.id}_{'output' if completed else 'errors'}.jsonl"
        lines = self._lines(batch, turn, completed=completed)
        stored = await self.files.write(new_file_id(), batch.tenant_id, lines, filename=name, purpose=RESULT_PURPOSE)
        if stored.bytes:
            return stored.id
        await self.files.delete(stored.id, batch.tenant_id)
        return None

    async def _lines(self, batch: StoredBatch, turn: Slice, *, completed: bool) -> AsyncIterator[bytes]:
        async for job in self.batches.rested(batch.id, completed=completed):
            line = output_line(job, batch.stopped)
            yield line
            turn.use(size_bytes=len(line))
            if turn.is_over:
                await turn.end()

    async def _refuse(self, batch_id: str, error: Exception) -> None:
        await self.batches.refuse(BatchId(batch_id), [asdict(_batch_error(error))])

    async def _fail(self, batch_id: str, error: Exception) -> None:
        await self.batches.fail(BatchId(batch_id), [asdict(_batch_error(error))])


def _works(
    batches: Sequence[StoredBatch], run: Callable[[StoredBatch, Slice], Coroutine[None, None, None]]
) -> list[Work]:
    return [Work(tenant_id=batch.tenant_id, name=batch.id, run=partial(run, batch)) for batch in batches]


def _batch_error(error: Exception) -> LineError:
    return LineError(code="internal_error", message=reason_of(error), line=None)
