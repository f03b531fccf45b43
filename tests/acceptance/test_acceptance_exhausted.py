"""P2: budgets for a third of the work, one for each policy, over a whole stack whose hours turn while it runs.

The servers and all processes share a clock that the test moves. So the hour turns under them as it would by itself,
and nobody waits for it; every window of every budget must hold, by the provider's bill.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from stack.children import wait_until
from stack.home import Home
from stack.servers import EmbeddedServers
from tasks.budgets.policy import TURN_SPREAD_SECONDS
from tests.support.shifted_clock import NO_COMPILER, ShiftedClock
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack_process import CONFIG, StackProcess

FEW, MANY = 300, 1_000
ANSWER_TOKENS = 8
CHEAP_NANO_USD = 10 * 400 + ANSWER_TOKENS * 1_600
DEAR_NANO_USD = 10 * 2_000 + ANSWER_TOKENS * 8_000
"""What one request of three words costs: ten tokens of prompt with what the provider adds, eight of answer."""

POLICIES = {
    "parks": ("small", CHEAP_NANO_USD, '["park"]'),
    "degrades": ("falling", DEAR_NANO_USD, '["cheaper", "park"]'),
    "repeats": ("small", CHEAP_NANO_USD, '["cached", "reject"]'),
    "rejects": ("small", CHEAP_NANO_USD, '["reject"]'),
}
BEFORE_TURN = timedelta(seconds=4)
PARTS = 8
"""What comes back at once shares the money that is left by what it may cost; in parts, by what it has cost."""

MOST_TURNS = 6
"""A quote is a little more than the cost, so that a third of the money lets a little less than a third through."""

SETTLED_SECONDS = 40.0
QUIET_SECONDS = 1.0
STATES = "SELECT state, count(*) AS jobs FROM jobs WHERE end_user = %s GROUP BY 1"
UNDER_WAY = """
SELECT end_user, state, wait_reason, count(*) AS jobs, min(wake_at) FILTER (WHERE state = 'waiting') AS wakes FROM jobs
WHERE state IN ('queued', 'running')
  OR (state = 'waiting' AND (wait_reason <> 'budget' OR wake_at <= clock_timestamp()))
GROUP BY 1, 2, 3
"""
UNSETTLED = """
SELECT j.end_user, a.state, a.outcome, count(*) AS attempts FROM attempts a JOIN jobs j ON j.id = a.job_id
WHERE a.state IN ('opened', 'suspense') GROUP BY 1, 2, 3
"""
SPENT = """
SELECT a.id, c.item ->> 0 AS scope, c.item ->> 1 AS time_window, l.nano_usd
FROM ledger l JOIN attempts a ON a.id = l.attempt_id CROSS JOIN LATERAL json_array_elements(a.counters) AS c (item)
WHERE c.item ->> 0 LIKE 'user:%%'
"""
PAID = """
SELECT count(*) AS jobs, max(attempts) AS most FROM (
    SELECT a.job_id, count(*) AS attempts FROM attempts a JOIN jobs j ON j.id = a.job_id
    WHERE j.end_user = %s GROUP BY 1
) AS each
"""
MODELS = (
    "SELECT a.model, count(*) AS calls FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE j.end_user = %s GROUP BY 1"
)


def user(policy: str, jobs: int) -> str:
    return f"{policy}-{jobs}"


def limit_of(scope: str) -> int:
    policy, _, jobs = scope.removeprefix("user:").partition("-")
    return int(jobs) // 3 * POLICIES[policy][1]


def configuration() -> str:
    budgets = [
        f'[[budgets]]\nscope = "user:{user(policy, jobs)}"\nwindow = "hour"\non_exhausted = {steps}\n'
        f'limit_usd = "{limit_of(user(policy, jobs)) / 10**9:.9f}"\n'
        for policy, (_, _, steps) in POLICIES.items()
        for jobs in (FEW, MANY)
    ]
    chains = '[aliases]\nfalling = ["gpt-4.1", "gpt-4.1-mini"]\n'
    return CONFIG.replace("[aliases]\n", chains) + "".join(budgets)


@dataclass(frozen=True, kw_only=True)
class Hours:
    """The stack, and the clock that it lives by."""

    stack: StackProcess
    clock: ShiftedClock
    folder: Path

    def hand_in(self, bodies: list[tuple[str, dict[str, object]]], name: str) -> None:
        lines = (
            json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body})
            for custom_id, body in bodies
        )
        path = self.folder / f"{name}.jsonl"
        path.write_text("\n".join(lines))
        with self.stack.openai() as client:
            uploaded = client.files.create(file=path, purpose="batch")
            client.batches.create(input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h")

    def states(self, who: str) -> Counter[str]:
        return Counter({row["state"]: row["jobs"] for row in self.stack.rows(STATES, who)})

    def until_settled(self, jobs: dict[str, int]) -> None:
        """Until these users have so many jobs, and everything is at rest or parked on its budget."""

        def is_settled() -> bool:
            known = all(self.states(who).total() == number for who, number in jobs.items())
            return known and not self.stack.rows(UNDER_WAY)

        assert wait_until(is_settled, seconds=SETTLED_SECONDS), (
            f"{self.clock.now}: {self.stack.rows(UNDER_WAY)}, {self.stack.rows(UNSETTLED)}"
        )

    def turn_the_hour(self, jobs: dict[str, int]) -> None:
        """Wait through the turn of the hour from shortly before it; what was parked comes back in parts."""
        turn = (self.clock.now + BEFORE_TURN).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        self.clock.be_at_least(turn - BEFORE_TURN)
        assert wait_until(lambda: self.clock.now > turn, seconds=BEFORE_TURN.total_seconds() + 2)
        for part in range(1, PARTS + 1):
            self.clock.be_at_least(turn + timedelta(seconds=TURN_SPREAD_SECONDS / PARTS * part + 1))
            self.until_settled(jobs)

    def spent(self) -> Counter[tuple[str, str]]:
        sums: Counter[tuple[str, str]] = Counter()
        for row in self.stack.rows(SPENT):
            sums[row["scope"], row["time_window"]] += row["nano_usd"]
        return sums

    def billed(self, provider: SimulatorProcess) -> Counter[tuple[str, str]]:
        """The same by the provider's own bill for each attempt."""
        bills, sums = provider.bills(), Counter[tuple[str, str]]()
        for row in self.stack.rows(SPENT):
            sums[row["scope"], row["time_window"]] += bills[row["id"]]["nano_usd"] if row["id"] in bills else 0
        return sums


@pytest.fixture(scope="module")
def hours(provider: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hours]:
    folder = tmp_path_factory.mktemp("hours")
    with ExitStack() as ends:
        clock = ends.enter_context(ShiftedClock.made())
        if clock is None:
            pytest.skip(NO_COMPILER)
        servers = ends.enter_context(EmbeddedServers.started(Home(folder / "servers"), env=clock.env))
        stores = {"PENSTOCK_REDIS_URL": servers.valkey.url, "PENSTOCK_DATABASE_URL": servers.postgres.url}
        running = StackProcess.started(
            folder / "home", provider=provider, config=configuration(), env=clock.env | stores
        )
        yield Hours(stack=ends.enter_context(running), clock=clock, folder=folder)


def asked(policy: str, jobs: int, words: str) -> dict[str, object]:
    return {
        "model": POLICIES[policy][0],
        "user": user(policy, jobs),
        "max_completion_tokens": ANSWER_TOKENS,
        "messages": [{"role": "user", "content": words}],
    }


def work(policy: str, jobs: int, *, numbers: range, of: int | None = None) -> list[tuple[str, dict[str, object]]]:
    """Requests of twelve characters each; of `of` different ones where the numbers go beyond."""
    return [(f"{n}", asked(policy, jobs, f"turbine {n % (of or jobs):04}")) for n in numbers]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [FEW, MANY])
def test_no_policy_exceeds_its_window_and_no_job_is_lost_as_hours_turn(
    hours: Hours, provider: SimulatorProcess, jobs: int
) -> None:
    third = jobs // 3
    parks, degrades, repeats, rejects = (user(policy, jobs) for policy in POLICIES)
    for policy in ("parks", "degrades", "rejects"):
        hours.hand_in(work(policy, jobs, numbers=range(jobs)), user(policy, jobs))
    hours.hand_in(work("repeats", jobs, numbers=range(third), of=third // 4), repeats)
    hours.until_settled({parks: jobs, degrades: jobs, rejects: jobs, repeats: third})
    hours.hand_in(work("repeats", jobs, numbers=range(third, 2 * third)), f"{repeats}-new")
    hours.until_settled({repeats: 2 * third})
    hours.hand_in(work("repeats", jobs, numbers=range(2 * third, jobs), of=third // 4), f"{repeats}-again")
    hours.until_settled({repeats: jobs})

    parked = {who: hours.states(who)["waiting"] for who in (parks, degrades)}
    calls_before_turn = provider.meter()["accepted"]
    assert all(0 < number < jobs for number in parked.values()), parked
    turns = 0
    while any(hours.states(who)["completed"] < jobs for who in (parks, degrades)) and turns < MOST_TURNS:
        hours.turn_the_hour({parks: jobs, degrades: jobs})
        turns += 1

    assert provider.meter()["accepted"] > calls_before_turn
    assert turns > 1
    assert hours.states(parks) == hours.states(degrades) == Counter(completed=jobs)
    assert [hours.stack.rows(PAID, who) for who in (parks, degrades)] == [[{"jobs": jobs, "most": 1}]] * 2
    calls = {row["model"]: row["calls"] for row in hours.stack.rows(MODELS, degrades)}
    assert calls["gpt-4.1"] > third
    assert calls["gpt-4.1-mini"] > 0
    for who in (repeats, rejects):
        states = hours.states(who)
        assert states.total() == jobs
        assert set(states) == {"completed", "dead"}, states
    assert hours.states(rejects)["completed"] <= third
    assert hours.states(repeats)["completed"] > hours.stack.rows(PAID, repeats)[0]["jobs"]
    spent = hours.spent()
    assert spent == hours.billed(provider)
    assert all(nano_usd <= limit_of(scope) for (scope, _), nano_usd in spent.items()), spent
    assert hours.stack.ledger_nano_usd() == provider.meter()["bill_nano_usd"]
