"""Whatever a caller or a provider sends: the neighbours' writes commit, and what is stored is what was said.

The real doors, pipeline, client and stores; the provider is a function from request to answer.
"""

import asyncio
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import httpx2
import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI

from api.answers import Json, header_value
from api.native.serializers import story_object, whole_letter_object
from config.catalogue import Catalogue, ModelTable, PriceTable, ProviderTable
from config.settings import Settings
from providers.account.http_client import Account
from providers.account.large_replies import LargeReplies
from providers.models import Models
from providers.tokens.counting import counters
from providers.tokens.estimates import Estimates
from providers.vocabulary import Vocabulary
from schemas.decision import DeadReason
from schemas.errors import InvalidRequest, NotFound
from schemas.ids import AttemptId, JobId, TenantId
from schemas.job import NewJob
from schemas.jsons import NEW_LINE, MalformedJson, dumps, parse, parse_reply
from schemas.lanes import Lane
from schemas.replay import DeadLetters
from schemas.storable import storable
from storage.database.engine import open_engine
from storage.dead_letters.reads import DeadLetterReads
from storage.jobs.group_jobs import GroupedJobs
from storage.jobs.reads import JobStory, Reads
from storage.jobs.writes import JobTable
from tasks.execution.heartbeats import LeaseKeeper
from tasks.execution.pipeline import run_job
from tasks.requests.chat import EXTRAS, Origin, parse_chat_request
from tasks.requests.new_ids import new_attempt_id
from tests.integration.conftest import fresh_database
from tests.support.fakes import FakeGate, FakeJobs, FakeModels, a_job, deps_of
from tests.support.figures import Figures
from tests.support.odd_json import ORDERLY, completions, errors, requests, streams

BYSTANDERS = 6
ODD = 5
PLAIN = "plain"
PLAIN_REQUEST = orjson.dumps({"model": PLAIN, "messages": [{"role": "user", "content": "hi"}]})
NAMES = [f"odd-{number}" for number in range(ODD)]
SECONDS = float(os.environ.get("PENSTOCK_TRIAL_SECONDS", "600"))
"""How long the long trial goes on."""

EXAMPLES_PER_ROUND = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One answer of a provider to all calls of one model."""

    status: int
    body: bytes
    content_type: str = "application/json"


Answers = st.one_of(
    st.builds(lambda body: Answer(status=200, body=body), completions()),
    st.builds(lambda body: Answer(status=200, body=body, content_type="text/event-stream"), streams()),
    st.builds(
        lambda status, body: Answer(status=status, body=body), st.sampled_from([200, 400, 402, 403, 429, 500]), errors()
    ),
)
Cases = st.tuples(*(st.tuples(requests(name), Answers) for name in NAMES))


@dataclass
class Provider:
    """Answers each model as it is told, and an orderly one as it should be."""

    answers: dict[str, Answer] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        model = parse(request.content)["model"]
        self.calls[request.headers["x-client-request-id"]] += 1
        answer = self.answers.get(model, Answer(status=200, body=ORDERLY))
        return httpx2.Response(answer.status, content=answer.body, headers={"content-type": answer.content_type})


def catalogue_of(names: Sequence[str]) -> Catalogue:
    """Each model at an account of its own, so that no verdict on one is a verdict on another."""
    price = PriceTable.model_validate({"input": "1.0", "output": "2.0"})
    return Catalogue(
        providers={name: ProviderTable(base_url="http://provider.invalid/v1") for name in names},
        models={name: ModelTable(provider=name, price=price) for name in names},
        aliases={},
    )


class World:
    """The stores and the models, kept for all examples."""

    def __init__(self, database_url: str) -> None:
        self.provider = Provider()
        self.ends: Counter[str] = Counter()
        self.catalogue = catalogue_of([PLAIN, *NAMES])
        self.engine = open_engine(database_url, application="trial")
        client = AsyncOpenAI(
            api_key="sk-none",
            base_url="http://provider.invalid/v1",
            max_retries=0,
            http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(self.provider)),
        )
        large_replies = LargeReplies()
        accounts = {
            name: Account(
                name=name, base_url="", openai=client, key="sk-none", lookup=False, large_replies=large_replies
            )
            for name in self.catalogue.providers
        }
        limits = Settings.model_construct(
            first_byte_timeout_seconds=5,
            between_chunks_timeout_seconds=5,
            total_timeout_seconds=5,
            connect_timeout_seconds=5,
        )
        self.models = Models(self.catalogue, limits, accounts, Estimates(counters({})))
        self.table = JobTable(self.engine, holder="trial", lease_seconds=600)
        self.reads = Reads(self.engine)

    def job(self, raw: bytes) -> NewJob | None:
        """The job of a request, or None where the door refuses it."""
        origin = Origin(
            tenant_id=TenantId("default"), job_id=JobId(f"job_{uuid.uuid4().hex}"), default_lane=Lane.NORMAL
        )
        try:
            job = parse_chat_request(parse(raw), origin, Vocabulary(self.catalogue), datetime.now(UTC))
        except (InvalidRequest, MalformedJson) as refusal:
            str(refusal).encode()
            self.ends["refused"] += 1
            return None
        return replace(job, idempotency_key=None)

    async def run(self, cases: Sequence[tuple[bytes, Answer]]) -> None:
        """One example: all jobs at once, in the same groups; then everything is held against what was said."""
        said = {name: answer for name, (_, answer) in zip(NAMES, cases, strict=True)}
        self.provider.answers = said
        self.provider.calls.clear()
        read = {raw: job for raw in (raw for raw, _ in cases) if (job := self.job(raw)) is not None}
        bystanders = [job for _ in range(BYSTANDERS) if (job := self.job(PLAIN_REQUEST)) is not None]
        await self.table.insert(bystanders)
        for job in read.values():
            await self.table.insert([job])
        odd = {job.id: raw for raw, job in read.items()}
        deps = deps_of(FakeJobs(a_job()), FakeGate(), FakeModels([]), now=lambda: datetime.now(UTC))
        grouped = GroupedJobs(self.table, LeaseKeeper(self.table.renew, every_seconds=600))
        deps = replace(deps, jobs=grouped, planner=self.models, models=self.models, attempt_id=new_attempt_id)
        await asyncio.gather(*(run_job(job_id, 0, deps) for job_id in [*odd, *(job.id for job in bystanders)]))
        for job in bystanders:
            self.check_bystander(await self.story(job.id))
        for job_id, raw in odd.items():
            self.check_odd(await self.story(job_id), raw, said)
        async for letter in DeadLetterReads(self.engine).whole(DeadLetters(ids=tuple(odd))):
            assert parse(dumps(whole_letter_object(letter, content=True), NEW_LINE)) is not None

    async def story(self, job_id: JobId) -> JobStory:
        found = await self.reads.story(job_id, TenantId("default"))
        if found is None:
            raise NotFound
        assert parse(Json(story_object(found)).body) is not None
        return found

    def check_bystander(self, story: JobStory) -> None:
        """Completed with its answer, after one call."""
        assert (story.job.state, story.reply, len(story.attempts)) == ("completed", orjson.loads(ORDERLY), 1)
        assert self.provider.calls[AttemptId(story.attempts[0].id)] == 1

    def check_odd(self, story: JobStory, raw: bytes, said: dict[str, Answer]) -> None:
        """Stored as it was asked and as it was answered; whatever became of it was decided, and no accident."""
        asked: dict[str, Any] = parse(raw)
        self.ends[story.job.dead_reason or story.job.wait_reason or story.job.state] += 1
        assert story.job.dead_reason != DeadReason.INTERNAL_ERROR
        assert story.job.state != "running"
        assert all(self.provider.calls[attempt.id] <= 1 for attempt in story.attempts)
        for name, value in asked.items():
            if name not in EXTRAS | {"metadata"}:
                assert story.body[name] == value
        if story.served_by is not None:
            header_value(story.served_by).encode("latin-1")
        answer = said[asked["model"]]
        if story.job.state == "completed" and answer.content_type == "application/json" and story.reply is not None:
            reply = storable(parse_reply(answer.body))
            assert {**story.reply, "choices": None} == {**reply, "choices": None}


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def world(database_url: str, runner: asyncio.Runner) -> Iterator[World]:
    with fresh_database(database_url) as url:
        world = World(url)
        yield world
        runner.run(world.engine.dispose())


def look(world: World, runner: asyncio.Runner, examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(Cases)
    def tried(cases: Sequence[tuple[bytes, Answer]]) -> None:
        runner.run(world.run(cases))

    tried()


def test_odd_values_hurt_nobody_and_are_stored_as_they_were_said(world: World, runner: asyncio.Runner) -> None:
    look(world, runner, 30)

    assert world.ends["completed"] > 0
    assert world.ends["refused"] > 0


@pytest.mark.slow
def test_odd_values_hurt_nobody_for_as_long_as_asked(world: World, runner: asyncio.Runner, figures: Figures) -> None:
    began = time.monotonic()
    rounds = 0
    while time.monotonic() - began < SECONDS:
        look(world, runner, EXAMPLES_PER_ROUND)
        rounds += 1
    tried = rounds * EXAMPLES_PER_ROUND
    figures.note(f"{tried} examples of {ODD} odd jobs, {BYSTANDERS} bystanders", "bystanders harmed", 0, 0)
    for end, count in sorted(world.ends.items()):
        figures.note("any values", f"jobs that ended as {end}", count, "")
