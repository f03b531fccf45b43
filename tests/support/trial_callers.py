"""Callers of a trial: many requests of one tenant at once, each with its status and latency, over one client.

async with Callers.of(trials, "b") as b:
    load = await b.mixed(calls=200, jobs=200)
    assert load.failures == 0
"""

import asyncio
import io
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from simulator.scripted import directive
from tests.support.figures import percentile
from tests.support.trial_stack import REPLY_MARKER, JobEnd, TrialStack, prompt

ANSWER_SECONDS = 120.0
NO_ANSWER = 0
"""Status of a request that got none."""

REST_SECONDS = 120.0
_NUMBERS = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one request came to."""

    status: int
    seconds: float
    body: bytes = b""
    script_id: str | None = None

    @property
    def is_ok(self) -> bool:
        return self.status == 200

    @property
    def json(self) -> Any:  # noqa: ANN401 - parsed JSON
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Load:
    """Calls and jobs that ended, with the number of times the provider was called for each."""

    calls: Sequence[Answer]
    accepted: Sequence[Answer]
    jobs: Sequence[JobEnd]
    paid: dict[str, int] = field(default_factory=dict)

    @property
    def failures(self) -> int:
        """Calls without a 200 and jobs that were refused or did not complete."""
        failed = sum(not call.is_ok for call in self.calls)
        return failed + len(self.accepted) - sum(job.state == "completed" for job in self.jobs)

    @property
    def paid_twice(self) -> int:
        """Requests for which the provider was called more than once."""
        return sum(times > 1 for times in self.paid.values())

    @property
    def p99_seconds(self) -> float:
        return percentile([call.seconds for call in self.calls], 0.99)

    def complaint(self) -> str:
        """What went wrong, for a failing test."""
        bad = [(call.status, call.body[:200]) for call in (*self.calls, *self.accepted) if not call.is_ok]
        return f"{bad[:3]} {[job for job in self.jobs if job.state != 'completed'][:3]}"


@dataclass(kw_only=True)
class Callers:
    """One tenant's requests."""

    trials: TrialStack
    session: aiohttp.ClientSession

    @classmethod
    @asynccontextmanager
    async def of(cls, trials: TrialStack, tenant: str) -> AsyncIterator["Callers"]:
        """Open connections as this tenant; as many as there are requests at once."""
        headers = {"authorization": f"Bearer {trials.keys[tenant]}"}
        async with aiohttp.ClientSession(
            trials.url,
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
        ) as session:
            yield cls(trials=trials, session=session)

    async def ask(self, method: str, path: str, body: object = None, **query: str) -> Answer:
        """Send one request; one that is not answered has the status NO_ANSWER. Bytes go out as they are."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        began = time.monotonic()
        try:
            async with self.session.request(
                method,
                path,
                data=None if raw is None else io.BytesIO(raw),
                params=query,
                headers={"content-type": "application/json"},
            ) as answer:
                text = await answer.read()
                return Answer(status=answer.status, seconds=time.monotonic() - began, body=text)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            return Answer(status=NO_ANSWER, seconds=time.monotonic() - began, body=repr(error).encode())

    async def call(self, script: dict[str, Any] | None = None, **body: Any) -> Answer:  # noqa: ANN401 - of a request
        """Make one synchronous call whose reply is scripted."""
        return await self._send("/v1/chat/completions", script, body)

    async def submit(self, script: dict[str, Any] | None = None, **body: Any) -> Answer:  # noqa: ANN401 - of a request
        """Hand in one job whose reply is scripted."""
        return await self._send("/jobs", script, body)

    async def mixed(
        self,
        *,
        calls: int,
        jobs: int,
        script: dict[str, Any] | None = None,
        rest_seconds: float = REST_SECONDS,
        **body: Any,  # noqa: ANN401 - of a request
    ) -> Load:
        """Make all calls and hand in all jobs at once; return when everything has ended, or the time is over."""
        answers = await asyncio.gather(
            *(self.call(script, **body) for _ in range(calls)), *(self.submit(script, **body) for _ in range(jobs))
        )
        called, accepted = answers[:calls], answers[calls:]
        ids = [answer.json["id"] for answer in accepted if answer.is_ok]
        ends = await self.trials.at_rest(ids, within_seconds=rest_seconds)
        paid = await asyncio.to_thread(self.trials.paid)
        ours = {answer.script_id: paid.get(answer.script_id, 0) for answer in answers if answer.script_id}
        return Load(calls=called, accepted=accepted, jobs=list(ends.values()), paid=ours)

    async def upload(self, content: bytes) -> str:
        """Upload a batch file; returns its id."""
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", io.BytesIO(content), filename="in.jsonl")
        async with self.session.post("/v1/files", data=form) as answer:
            found = await answer.json()
            assert answer.status == 200, found
            return str(found["id"])

    async def batch(self, file_id: str) -> Answer:
        """Create a batch of an uploaded file."""
        wanted = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return await self.ask("POST", "/v1/batches", wanted)

    async def _send(self, path: str, script: dict[str, Any] | None, body: dict[str, Any]) -> Answer:
        script_id = f"{uuid.uuid4().hex[:8]}-{next(_NUMBERS)}"
        marker = directive(**{"content": REPLY_MARKER, "id": script_id, **(script or {})})
        whole = {"model": "small", "messages": prompt(marker)} | body
        answer = await self.ask("POST", path, whole)
        return Answer(status=answer.status, seconds=answer.seconds, body=answer.body, script_id=script_id)
