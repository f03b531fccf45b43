"""Quotes the cost and time of requests at the current limits.

`likely` is the estimated prompt and an answer as long as the model's latest; `one_call` is one call at the dearest
target; in `worst_case` every try fails after all its reprompts.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from admission.limits import DimensionSnapshot, LimitsSnapshot
from schemas.admission import Refusal
from schemas.batch import BatchTerms
from schemas.errors import InvalidRequest, UnknownModel
from schemas.ids import BatchId, FileId, JobId, TenantId
from schemas.job import CHAT_COMPLETIONS, Job, NewJob, Target
from schemas.lanes import Lane
from schemas.money import ZERO, NanoUsd, Usage
from schemas.plan import Plan
from schemas.states import JobState
from storage.database.mapping import values_of
from tasks.batches.lines import MAX_LINE_BYTES, MAX_REPORTED_ERRORS, LineError, LineReader
from tasks.dispatch.prefetch_windows import Buckets
from tasks.execution.deps import Planner
from tasks.execution.retry_policy import MAX_EXTENSIONS
from tasks.maintenance.slices import Clock
from tasks.requests.chat import MAX_DEADLINE_SECONDS, Vocabulary

MAX_QUOTED_LINES = 50_000
"""The same as of a batch."""

MOST_FILES_AT_ONCE = 2
"""Files that a process quotes at once; each takes one to ten seconds of work."""

QUOTE_WORK_SECONDS, QUOTE_REST_SECONDS = 0.01, 0.01
"""Work and pause of a quote: it takes at most half of the loop's time, and no request waits long."""

MINUTE_SECONDS, DAY_SECONDS = 60.0, 86_400.0


class QuotedFiles(Protocol):
    """Reads the lines of files."""

    def lines(self, file_id: FileId, *, most_bytes: int) -> AsyncIterator[bytes]:
        """Yield lines; a longer one is cut to one byte more than `most_bytes`."""


@dataclass(kw_only=True, slots=True)
class Work:
    """Counts requests and tokens of a first target."""

    requests: int = 0
    tokens: int = 0


@dataclass(kw_only=True, slots=True)
class Totals:
    """Sums requests. `unpriced` ones are in no amount."""

    requests: int = 0
    unpriced: int = 0
    likely_input_tokens: int = 0
    likely_output_tokens: int = 0
    most_input_tokens: int = 0
    most_output_tokens: int = 0
    likely_nano_usd: int = 0
    one_call_nano_usd: int = 0
    worst_case_nano_usd: int = 0
    work: dict[Target, Work] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quoted:
    """Holds a quote. `held_by` is the slowest limit; `seconds` is None without limits."""

    totals: Totals
    seconds: float | None
    held_by: str | None


@dataclass(kw_only=True, slots=True)
class Quotes:
    """Quotes single requests and whole files. `answer_tokens` gives the mean of recent answers by target."""

    planner: Planner
    files: QuotedFiles
    limits: Buckets
    answer_tokens: Callable[[], Awaitable[Mapping[Target, float]]]
    vocabulary: Vocabulary
    now: Callable[[], datetime]
    bucket_of: Callable[[Target], Target] = lambda target: target
    most_bytes: int = MAX_LINE_BYTES
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Clock = time.monotonic
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_FILES_AT_ONCE))

    async def request(self, job: NewJob) -> Quoted:
        """Quote one request. Raises InvalidRequest."""
        totals, lengths = Totals(), await self.answer_tokens()
        complaint = add(totals, self.planner, job, lengths, self.now())
        if complaint is not None:
            raise InvalidRequest(complaint)
        return await self._timed(totals)

    async def file(self, tenant_id: TenantId, file_id: FileId) -> Quoted:
        """Quote a batch file. Raises InvalidRequest with the numbers of invalid lines."""
        async with self._places:
            return await self._file(tenant_id, file_id)

    async def _file(self, tenant_id: TenantId, file_id: FileId) -> Quoted:
        totals, errors, lengths = Totals(), list[LineError](), await self.answer_tokens()
        worked_until = self.clock() + QUOTE_WORK_SECONDS
        async for number, read in self._read(tenant_id, file_id):
            complaint = read if isinstance(read, LineError) else self._add(totals, read, number, lengths)
            if complaint is not None:
                errors.append(complaint)
            if len(errors) >= MAX_REPORTED_ERRORS:
                break
            if self.clock() >= worked_until:
                await self.pause(QUOTE_REST_SECONDS)
                worked_until = self.clock() + QUOTE_WORK_SECONDS
        if errors:
            raise InvalidRequest(_sentence(errors), param="input_file_id")
        if totals.requests == 0:
            raise InvalidRequest("The input file holds no requests.", param="input_file_id")
        return await self._timed(totals)

    def _add(self, totals: Totals, job: NewJob, number: int, lengths: Mapping[Target, float]) -> LineError | None:
        complaint = add(totals, self.planner, job, lengths, self.now())
        return None if complaint is None else LineError(code="cannot_run", message=complaint, line=number)

    async def _read(self, tenant_id: TenantId, file_id: FileId) -> AsyncIterator[tuple[int, NewJob | LineError]]:
        terms = BatchTerms(
            id=BatchId("batch_quoted"),
            tenant_id=tenant_id,
            endpoint=CHAT_COMPLETIONS,
            lane=Lane.NORMAL,
            window_seconds=MAX_DEADLINE_SECONDS,
        )
        reader = LineReader(terms, self.vocabulary, self.now(), lambda: JobId("job_quoted"), self.most_bytes)
        number = 0
        async for line in self.files.lines(file_id, most_bytes=self.most_bytes):
            number += 1
            if number > MAX_QUOTED_LINES:
                message = f"A batch may hold at most {MAX_QUOTED_LINES} requests."
                yield number, LineError(code="too_many_requests", message=message, line=number)
                return
            if (read := reader.read(number, line)) is not None:
                yield number, read

    async def _timed(self, totals: Totals) -> Quoted:
        together: dict[Target, Work] = {}
        for target, work in totals.work.items():
            shared = together.setdefault(self.bucket_of(target), Work())
            shared.requests += work.requests
            shared.tokens += work.tokens
        times = [
            longest
            for bucket, work in together.items()
            if (snapshot := await self.limits.snapshot(bucket)) is not None
            and (longest := longest_of(snapshot, work)) is not None
        ]
        seconds, held_by = max(times, default=(None, None), key=lambda time: time[0] or 0.0)
        return Quoted(totals=totals, seconds=seconds, held_by=held_by)


def add(totals: Totals, planner: Planner, job: NewJob, lengths: Mapping[Target, float], now: datetime) -> str | None:
    """Add one request; returns why it could not run, or None."""
    queued = Job(**values_of(job), state=JobState.QUEUED, generation=0, fence=0, tries=0, created_at=now)
    plans = _plans(planner, queued, now)
    plan = plans[0]
    if isinstance(plan, Refusal):
        return f"This request could not run: {plan.reason.value} {plan.scope or ''}".rstrip()
    quote, dearest = plan.quote, _dearest(plans)
    length = lengths.get(plan.target)
    usual = Usage(
        input_tokens=min(quote.likely_input_tokens or quote.input_tokens, quote.input_tokens),
        output_tokens=quote.output_tokens if length is None else min(round(length), quote.output_tokens),
    )
    totals.requests += 1
    totals.unpriced += dearest is None
    totals.likely_input_tokens += usual.input_tokens
    totals.likely_output_tokens += usual.output_tokens
    totals.most_input_tokens += quote.input_tokens
    totals.most_output_tokens += quote.output_tokens
    totals.likely_nano_usd += plan.price.cost(usual) if plan.price.is_known else 0
    totals.one_call_nano_usd += dearest or 0
    totals.worst_case_nano_usd += worst_case(queued, dearest or ZERO)
    work = totals.work.setdefault(plan.target, Work())
    work.requests += 1
    work.tokens += usual.total_tokens
    return None


def dearest_call(planner: Planner, job: Job, now: datetime) -> NanoUsd | None:
    """Return the cost of the dearest allowed call; None without a known price."""
    try:
        return _dearest(_plans(planner, job, now))
    except UnknownModel:
        return None


def _plans(planner: Planner, job: Job, now: datetime) -> list[Plan | Refusal]:
    return [planner.plan(job, target, job.body, now) for target in planner.chain(job.model)]


def _dearest(plans: Sequence[Plan | Refusal]) -> NanoUsd | None:
    return max(
        (plan.quote.cost_nano_usd for plan in plans if isinstance(plan, Plan) and plan.price.is_known), default=None
    )


def worst_case(job: Job, quoted: NanoUsd) -> int:
    """Return the nano-USD if every try fails after all its reprompts, at `quoted` per call.

    An extended answer costs up to twice as much. One such call may exceed the job's own lower ceiling, which is checked
    before.
    """
    calls = job.max_tries * (1 + job.max_reprompts + 2 * MAX_EXTENSIONS)
    if job.max_cost_nano_usd is None:
        return calls * quoted
    return min(calls * quoted, max(0, job.max_cost_nano_usd - job.spent_nano_usd) + 2 * quoted)


def longest_of(snapshot: LimitsSnapshot, work: Work) -> tuple[float, str] | None:
    """Return this bucket's seconds at its current rate, and its slowest limit.

    Limits per minute count as empty, because their burst is a third of a second.
    """
    times = [
        _seconds("requests_per_minute", snapshot.requests_per_minute, work.requests, MINUTE_SECONDS),
        _seconds("tokens_per_minute", snapshot.tokens_per_minute, work.tokens, MINUTE_SECONDS),
        _seconds("requests_per_day", snapshot.requests_per_day, work.requests, DAY_SECONDS),
        _seconds("tokens_per_day", snapshot.tokens_per_day, work.tokens, DAY_SECONDS),
    ]
    return max((time for time in times if time is not None), default=None)


def _seconds(name: str, limit: DimensionSnapshot, amount: int, period_seconds: float) -> tuple[float, str] | None:
    if not limit.effective:
        return None
    ready = max(0.0, limit.level or 0.0) * limit.effective if period_seconds == DAY_SECONDS else 0.0
    return max(0.0, amount - ready) / limit.effective * period_seconds, name


def _sentence(errors: list[LineError]) -> str:
    first, *others = errors
    also = ", ".join(str(error.line) for error in others[:20])
    more = f" Also wrong: {also}{' and more' if len(others) > 20 else ''}." if others else ""  # noqa: PLR2004 - a line
    return f"line {first.line}: {first.message}{more}"
