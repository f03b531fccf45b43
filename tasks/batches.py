"""A batch from its file to its results: read and check every line, store the jobs, write the result files.

Runs in upkeep, so that a web process may die at any moment. Both steps may run twice: jobs are inserted under the key
batch id and custom id, and result files are written before the batch names them.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime

import structlog

from schemas.ids import FileId, JobId
from schemas.job import NewJob
from tasks.batch_lines import MAX_REPORTED_ERRORS, BatchTerms, LineError, LineReader, output_line
from tasks.requests import Vocabulary
from tasks.stores import BatchJobs, BatchRows

log = structlog.get_logger()

JOBS_PER_INSERT = 500
MAX_BATCH_LINES = 50_000
MAX_LINE_BYTES = 1_000_000


class Batches:
    """Moves batches forward; every method returns how many it moved."""

    def __init__(
        self,
        batches: BatchRows,
        jobs: BatchJobs,
        vocabulary: Vocabulary,
        *,
        now: Callable[[], datetime],
        new_job_id: Callable[[], JobId],
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self._batches = batches
        self._jobs = jobs
        self._vocabulary = vocabulary
        self._now = now
        self._new_job_id = new_job_id
        self._max_line_bytes = max_line_bytes

    async def start_new(self) -> int:
        """Read the files of new batches: first every line is checked, then every line is stored."""
        started = 0
        for terms, file_id in await self._batches.validating():
            total, errors = await self._check(terms, file_id)
            if errors:
                await self._batches.refuse(terms.batch_id, errors)
                log.info("batch_refused", batch_id=terms.batch_id, errors=len(errors))
            else:
                await self._store(terms, file_id)
                await self._batches.start(terms.batch_id, total)
                log.info("batch_started", batch_id=terms.batch_id, jobs=total)
            started += 1
        return started

    async def finish_rested(self) -> int:
        """Write the files of batches whose jobs are all at rest."""
        rested = await self._batches.all_at_rest()
        for terms in rested:
            output = await self._file(terms, completed=True)
            errors = await self._file(terms, completed=False)
            await self._batches.finish(terms.batch_id, output, errors)
            log.info("batch_finished", batch_id=terms.batch_id)
        return len(rested)

    async def _check(self, terms: BatchTerms, file_id: FileId) -> tuple[int, Sequence[LineError]]:
        total, errors = 0, list[LineError]()
        async for read in self._read(terms, file_id):
            total += 1
            if isinstance(read, LineError):
                errors.append(read)
            if total > MAX_BATCH_LINES:
                message = f"A batch may hold at most {MAX_BATCH_LINES} requests."
                errors = [LineError(code="too_many_requests", message=message, line=total)]
                break
            if len(errors) >= MAX_REPORTED_ERRORS:
                break
        if total == 0:
            errors.append(LineError(code="empty_file", message="The input file holds no requests.", line=1))
        return total, errors

    async def _store(self, terms: BatchTerms, file_id: FileId) -> None:
        """The first jobs into their lane, what stands behind the canary held; which is which depends on the file."""
        waiting, stored = list[NewJob](), 0
        async for read in self._read(terms, file_id):
            if isinstance(read, NewJob):
                waiting.append(read)
            if len(waiting) >= JOBS_PER_INSERT or len(waiting) + stored == terms.canary:
                await self._insert(terms, waiting, stored)
                stored += len(waiting)
                waiting.clear()
        if waiting:
            await self._insert(terms, waiting, stored)

    async def _insert(self, terms: BatchTerms, jobs: Sequence[NewJob], stored: int) -> None:
        is_held = terms.canary is not None and stored >= terms.canary
        await (self._jobs.insert_held(jobs) if is_held else self._jobs.insert(jobs))

    async def _read(self, terms: BatchTerms, file_id: FileId) -> AsyncIterator[NewJob | LineError]:
        reader = LineReader(terms, self._vocabulary, now=self._now(), new_job_id=self._new_job_id)
        number = 0
        async for line in self._batches.lines(file_id, most_bytes=self._max_line_bytes):
            number += 1
            if len(line) > self._max_line_bytes:
                yield self._too_long(number)
            elif line.strip():
                yield reader.read(number, line)

    def _too_long(self, number: int) -> LineError:
        message = f"A line may have at most {self._max_line_bytes} bytes."
        return LineError(code="line_too_long", message=message, line=number)

    async def _file(self, terms: BatchTerms, *, completed: bool) -> FileId | None:
        name = f"{terms.batch_id}_{'output' if completed else 'errors'}.jsonl"
        return await self._batches.write_file(terms, name, self._lines(terms, completed=completed))

    async def _lines(self, terms: BatchTerms, *, completed: bool) -> AsyncIterator[bytes]:
        async for job in self._batches.rested_jobs(terms.batch_id, completed=completed):
            yield output_line(job, terms.stopped)
