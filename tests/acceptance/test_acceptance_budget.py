"""P2: real workers under budgets that bind, one killed every five seconds: no counter is passed at any moment."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path

import pytest

from admission.gate import DEFAULT_LIFETIME_SECONDS
from schemas.ids import AttemptId
from schemas.money import NanoUsd
from stack.children import wait_until
from stack.home import Home
from stack.servers import EmbeddedServers
from tests.chaos.balances import Samples, reserved_in, watch
from tests.chaos.invoice import resolve_by_bill
from tests.support.shifted_clock import NO_COMPILER, ShiftedClock
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack_process import CONFIG, StackProcess

SECONDS = 60.0
KILL_EVERY_SECONDS = 5.0
WORKERS = ("standard-1", "bulk", "interactive")
USERS, JOBS_OF_EACH = 60, 60
"""One after the other, so that at every moment some user's money is just running out."""

COST_NANO_USD = 10 * 400 + 8 * 1_600
"""What one request of three words costs: ten tokens of prompt with what the provider adds, eight of answer."""

USER_NANO_USD = JOBS_OF_EACH // 3 * COST_NANO_USD
TOTAL_NANO_USD = int(USERS * USER_NANO_USD * 0.9)
LIMITS = {"user": USER_NANO_USD, "tenant": TOTAL_NANO_USD, "global": TOTAL_NANO_USD * 2}
WINDOWS = {"user": "month", "tenant": "month", "global": "month"}
AT_REST_SECONDS = 60.0
SETTLED_SECONDS = 60.0
AT_WORK = "SELECT count(*) AS jobs FROM jobs WHERE state = 'running'"
UNKNOWN = "SELECT count(*) AS attempts FROM attempts WHERE state IN ('opened', 'suspense')"
LATE = "SELECT count(*) AS attempts FROM attempts WHERE state = 'posted' AND outcome IS DISTINCT FROM 'valid'"
BY_USER = "SELECT end_user, sum(nano_usd)::bigint AS nano_usd FROM ledger GROUP BY 1"


def configuration() -> str:
    budgets = [
        f'[[budgets]]\nscope = "{scope}"\nwindow = "{WINDOWS[scope]}"\nlimit_usd = "{limit / 10**9:.9f}"\n'
        for scope, limit in LIMITS.items()
    ]
    return CONFIG[: CONFIG.index("[[budgets]]")] + "".join(budgets)


@pytest.fixture
def busy_provider() -> Iterator[SimulatorProcess]:
    """Slow enough that a killed worker has calls in flight, and one that cuts some connections after it has billed."""
    with SimulatorProcess.start(latency="lognormal:800,0.5", requests_per_minute=0, tokens_per_minute=0) as running:
        yield running


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A stack whose budgets bind, and the clock that its stores and processes live by."""

    stack: StackProcess
    clock: ShiftedClock


@pytest.fixture
def bound(busy_provider: SimulatorProcess, tmp_path: Path) -> Iterator[Bound]:
    with ExitStack() as ends:
        clock = ends.enter_context(ShiftedClock.made())
        if clock is None:
            pytest.skip(NO_COMPILER)
        servers = ends.enter_context(EmbeddedServers.started(Home(tmp_path / "servers"), env=clock.env))
        env = {
            "PENSTOCK_SLOTS": "24",
            "PENSTOCK_RESERVED_CRITICAL_SLOTS": "2",
            "PENSTOCK_SLICE_SIZE": "8",
            "PENSTOCK_REDIS_URL": servers.valkey.url,
            "PENSTOCK_DATABASE_URL": servers.postgres.url,
        }
        running = StackProcess.started(
            tmp_path / "home", provider=busy_provider, config=configuration(), env=clock.env | env
        )
        yield Bound(stack=ends.enter_context(running), clock=clock)


@contextmanager
def sampled(redis_url: str) -> Iterator[list[Samples]]:
    """Balances read by a process of its own as fast as they can be, while the block runs."""
    context, found = get_context("spawn"), list[Samples]()
    over, (told, tell) = context.Event(), context.Pipe(duplex=False)
    process = context.Process(target=watch, args=(redis_url, LIMITS, over, tell), daemon=True)
    process.start()
    try:
        yield found
        over.set()
        found.append(told.recv())
    finally:
        process.kill()
        process.join()


def hand_in(stack: StackProcess, folder: Path) -> None:
    path = folder / "work.jsonl"
    with path.open("w") as lines:
        for number in range(USERS * JOBS_OF_EACH):
            body = {
                "model": "small",
                "user": f"user-{number // JOBS_OF_EACH}",
                "max_completion_tokens": 8,
                "messages": [{"role": "user", "content": f"turbine {number:04}"}],
            }
            line = {"custom_id": f"{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            lines.write(json.dumps(line) + "\n")
    with stack.openai() as client:
        uploaded = client.files.create(file=path, purpose="batch")
        client.batches.create(input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h")


def has_come(moment: float) -> bool:
    return time.monotonic() >= moment


@pytest.mark.slow
def test_workers_that_are_killed_pass_no_budget_and_lose_no_nano_dollar(
    bound: Bound, busy_provider: SimulatorProcess, tmp_path: Path
) -> None:
    stack = bound.stack
    with sampled(stack.connection.redis_url) as samples:
        hand_in(stack, tmp_path)
        assert wait_until(lambda: stack.rows(AT_WORK)[0]["jobs"] > 0, seconds=AT_REST_SECONDS)
        kills, ends_at = 0, time.monotonic() + SECONDS
        for name in cycle(WORKERS):
            next_at = time.monotonic() + KILL_EVERY_SECONDS
            if next_at > ends_at:
                break
            stack.kill(name)
            kills += 1
            wait_until(partial(has_come, next_at), seconds=KILL_EVERY_SECONDS + 1)
        stack.api.post("controls", "pause", body={"kind": "model", "name": "small"})
        assert wait_until(lambda: stack.rows(AT_WORK)[0]["jobs"] == 0, seconds=AT_REST_SECONDS)
        bills = {AttemptId(name): NanoUsd(bill["nano_usd"]) for name, bill in busy_provider.bills().items()}
        in_suspense = resolve_by_bill(stack.connection.database_url, bills)
        bound.clock.shift(int(DEFAULT_LIFETIME_SECONDS))  # what was granted and never opened runs out
        assert wait_until(lambda: reserved_in(stack.connection.redis_url, LIMITS) == 0, seconds=SETTLED_SECONDS)

    [seen] = samples
    lost = stack.rows(LATE)[0]["attempts"]
    print(  # noqa: T201 - the figures
        f"{kills} kills, {seen.number} samples ({seen.per_second:.0f}/s), worst {seen.worst_nano_usd} nano-dollars, "
        f"{len(bills)} calls billed, {in_suspense} in suspense at the end, {lost} posted without a valid reply"
    )
    assert kills >= SECONDS / KILL_EVERY_SECONDS - 1
    assert -2 * COST_NANO_USD < seen.worst_nano_usd <= 0  # and some limit had no room left
    assert stack.rows(UNKNOWN)[0]["attempts"] == 0
    assert in_suspense + lost > 0
    assert stack.ledger_nano_usd() == busy_provider.meter()["bill_nano_usd"] == sum(bills.values())
    assert all(row["nano_usd"] <= USER_NANO_USD for row in stack.rows(BY_USER))
