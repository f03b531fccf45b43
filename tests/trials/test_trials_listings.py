"""A listing by state reads what it shows, however many jobs there are."""

import asyncio
import os
from collections.abc import Iterator

import psycopg
import pytest

from tests.support.figures import Figures, percentile
from tests.support.trial_callers import Answer, Callers
from tests.support.trial_stack import TrialStack

JOBS = int(os.environ.get("PENSTOCK_TRIAL_JOBS", "2500000"))
"""Fewer make a quicker run and a weaker figure."""

RARE, LISTINGS, LISTERS = 5, 200, 24
BYSTANDER_CALLS = 100
MOST_MS = 50.0
MOST_TIMES_CONTROL = 2.0

FILL = """
INSERT INTO jobs (id, tenant_id, lane, model, endpoint, state, expires_at, max_tries, max_reprompts, request_digest,
    created_at, rested_at)
SELECT 'job_' || md5(n::text), 'a', (ARRAY['low', 'normal'])[1 + n %% 2], 'gpt-4.1-mini', '/v1/chat/completions',
    CASE WHEN n < %(rare)s THEN 'expired' WHEN n %% 100 = 0 THEN 'cancelled' ELSE 'completed' END,
    now(), 5, 2, md5(n::text), now() - make_interval(secs => %(jobs)s - n), now()
FROM generate_series(0, %(jobs)s - 1) AS n
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialStack]:
    with TrialStack.started(tmp_path_factory.mktemp("listings") / "home") as running:
        with psycopg.connect(running.stack.connection.database_url, autocommit=True) as connection:
            connection.execute("SET synchronous_commit = off")
            connection.execute(FILL, {"jobs": JOBS, "rare": RARE})
            connection.execute("VACUUM (ANALYZE) jobs")
        yield running


@pytest.mark.slow
@pytest.mark.parametrize(
    "query",
    [
        {"state": "expired"},
        {"state": "dead"},
        {"state": "queued", "lane": "low"},
        {"state": "completed", "limit": "1000"},
        {},
    ],
    ids=str,
)
async def test_a_listing_takes_no_longer_than_what_it_shows(
    filled: TrialStack, figures: Figures, query: dict[str, str]
) -> None:
    async with Callers.of(filled, "a") as a:
        await a.ask("GET", "/jobs", **query)
        answers = [await a.ask("GET", "/jobs", **query) for _ in range(LISTINGS)]

    p99_ms = _p99_ms(answers)
    figures.note(f"GET /jobs {query} of {JOBS} jobs", "p99, ms", p99_ms, f"<= {MOST_MS}")
    assert all(answer.is_ok for answer in answers)
    if query.get("limit") is None:  # a thousand rows are written out, which is work of another kind
        assert p99_ms <= MOST_MS


@pytest.mark.slow
async def test_listings_of_one_tenant_delay_no_other(filled: TrialStack, figures: Figures) -> None:
    async with Callers.of(filled, "a") as a, Callers.of(filled, "b") as b:
        control = _p99_ms([await b.call() for _ in range(BYSTANDER_CALLS)])
        listers = [asyncio.ensure_future(_list_for_ever(a)) for _ in range(LISTERS)]
        beside = [await b.call() for _ in range(BYSTANDER_CALLS)]
        for lister in listers:
            lister.cancel()
        await asyncio.gather(*listers, return_exceptions=True)

    times = _p99_ms(beside) / control
    figures.note(f"{LISTERS} listers of one tenant", "another's calls, p99 times the control", times, "<= 2")
    assert all(answer.is_ok for answer in beside)
    assert times <= MOST_TIMES_CONTROL


async def _list_for_ever(a: Callers) -> None:
    while True:
        await a.ask("GET", "/jobs", state="expired")


def _p99_ms(answers: list[Answer]) -> float:
    return percentile([answer.seconds for answer in answers], 0.99) * 1000
