"""Thresholds over the real stores: once each, whoever settles how often, and whatever Redis forgets meanwhile."""

import asyncio
import base64
import threading
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from zoneinfo import ZoneInfo

import openai
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from admission.connect import Admission
from config.catalogue import WebhookTable
from schemas.admission import BudgetCounter, Grant, SettleKind, Settlement
from schemas.money import NanoUsd
from storage.ledger.budget_alerts import StoredThreshold, ThresholdReached, ThresholdTable
from storage.tenancy.configuration import ConfigRow
from tasks.alerts.thresholds import Thresholds, forecast
from tasks.alerts.webhooks import Webhooks, receiver_from
from tasks.budgets.counters import Budget, Window, window_name
from tasks.configuration.effective import Configuration
from tasks.maintenance.items import MOST_FAILURES
from tests.support.admission_fixture import Clock, an_ask, granted, open_admission

LIMIT = 3_000
NOW = datetime.now(UTC)
WINDOW = window_name(Window.DAY, ZoneInfo("UTC"), NOW)
SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"


@dataclass
class Rows:
    """One budget of one tenant, whose limit may be changed."""

    scope: str = field(default_factory=lambda: f"tenant:{uuid.uuid4().hex}")
    limit: int = LIMIT
    version: int = 1

    async def all(self) -> Sequence[ConfigRow]:
        value = {"scope": self.scope, "window": "day", "timezone": "UTC", "limit_usd": f"{self.limit / 1e9:.9f}"}
        return [ConfigRow(name="budget/x", version=self.version, value=value, source="file", changed_at=NOW)]


@pytest.fixture
async def admission(redis_url: str) -> AsyncIterator[Admission]:
    async with open_admission(redis_url, Clock()) as admission:
        yield admission


@pytest.fixture
def table(engine: AsyncEngine) -> ThresholdTable:
    return ThresholdTable(engine)


def thresholds(admission: Admission, table: ThresholdTable, rows: Rows) -> Thresholds:
    return Thresholds(redis=admission.ledger, rows=table, configuration=Configuration(rows), now=lambda: NOW)


def counter(rows: Rows) -> BudgetCounter:
    return BudgetCounter(scope=rows.scope, window=WINDOW, limit_nano_usd=NanoUsd(rows.limit))


async def spend(admission: Admission, rows: Rows, cost: int) -> Grant:
    ask = an_ask(uuid.uuid4().hex, cost_nano_usd=NanoUsd(cost), counters=(counter(rows),))
    grant = granted(await admission.gate.admit(ask))
    await admission.gate.settle(posted(grant))
    return grant


def posted(grant: Grant) -> Settlement:
    return Settlement(grant=grant, kind=SettleKind.POST, actual_nano_usd=grant.cost_nano_usd)


async def percents(table: ThresholdTable, scope: str) -> dict[int, int]:
    return {percent: times for (found, percent), times in (await table.counts()).items() if found == scope}


async def test_concurrent_and_repeated_settlements_report_each_threshold_once(
    admission: Admission, table: ThresholdTable
) -> None:
    rows = Rows()
    asks = [an_ask(f"{rows.scope}{n}", cost_nano_usd=NanoUsd(10), counters=(counter(rows),)) for n in range(300)]
    grants = [granted(await admission.gate.admit(each)) for each in asks]
    twice = grants + grants[::3]
    one, other = thresholds(admission, table, rows), thresholds(admission, table, rows)

    async def take(duty: Thresholds) -> None:
        for _ in range(20):
            await duty.take()
            await duty.look()

    await asyncio.gather(*(admission.gate.settle(posted(grant)) for grant in twice), take(one), take(other))

    assert await one.take() == 0
    assert await percents(table, rows.scope) == {50: 1, 80: 1, 100: 1}


async def test_a_raised_limit_has_thresholds_of_its_own(admission: Admission, table: ThresholdTable) -> None:
    rows = Rows()
    duty = thresholds(admission, table, rows)
    await spend(admission, rows, 1_600)
    await duty.take()

    rows.limit, rows.version = 4_000, 2
    await duty.look()
    await spend(admission, rows, 600)
    await duty.take()

    assert await percents(table, rows.scope) == {50: 2}


async def test_a_limit_that_is_lowered_under_what_is_spent_is_told_at_once(
    admission: Admission, table: ThresholdTable
) -> None:
    rows = Rows()
    duty = thresholds(admission, table, rows)
    await spend(admission, rows, 1_000)

    rows.limit, rows.version = 1_100, 2

    assert await duty.look() == 2
    assert await duty.look() == 0
    assert await percents(table, rows.scope) == {50: 1, 80: 1}


async def test_what_redis_forgot_to_report_is_found_by_looking(admission: Admission, table: ThresholdTable) -> None:
    rows = Rows()
    await spend(admission, rows, 2_500)
    await admission.wire.command("DEL", admission.keys.budget_events)

    assert await thresholds(admission, table, rows).look() == 2


class Hook(BaseHTTPRequestHandler):
    """Refuses the first, hears the second."""

    heard: list[tuple[dict[str, str], str]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.server.heard.append((dict(self.headers.items()), body))  # type: ignore[attr-defined]  # set below
        self.send_response(500 if len(self.server.heard) == 1 else 204)  # type: ignore[attr-defined]  # the same
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hook() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        server.heard = []  # type: ignore[attr-defined]  # what it has heard
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def test_a_threshold_reaches_a_real_receiver_that_the_sdk_verifies_for(
    admission: Admission, table: ThresholdTable, hook: HTTPServer
) -> None:
    rows = Rows()
    receiver = receiver_from(WebhookTable(url=f"http://127.0.0.1:{hook.server_port}/", secret_env="X"), {"X": SECRET})
    webhooks = Webhooks(table, receiver, now=lambda: datetime.now(UTC))
    for other in await table.due():
        await table.sent(other.id, heard=True)
    await spend(admission, rows, 1_500)
    await thresholds(admission, table, rows).take()

    assert await webhooks.deliver() == 0
    assert await webhooks.deliver() == 0  # its pause has not passed
    [waiting] = list(hook.heard)  # type: ignore[attr-defined]  # set above
    await table.sent(int(waiting[0]["Webhook-Id"].removeprefix("evt_")), heard=False, again_seconds=-1)
    assert await webhooks.deliver() == 1
    assert await webhooks.deliver() == 0

    (first, _), (second, body) = hook.heard  # type: ignore[attr-defined]  # set above
    assert first["Webhook-Id"] == second["Webhook-Id"]
    with openai.OpenAI(api_key="none", webhook_secret=SECRET) as client:
        client.webhooks.verify_signature(body, {name.lower(): value for name, value in second.items()})


def test_the_forecast_says_when_all_is_spent_at_the_present_burn() -> None:
    now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    day = Budget(scope="global", window=Window.DAY, limit_nano_usd=NanoUsd(1), timezone=ZoneInfo("UTC"))

    assert forecast(NanoUsd(600), NanoUsd(100), 900, day, now) == now + timedelta(minutes=90)
    assert forecast(NanoUsd(6_000), NanoUsd(100), 900, day, now) is None  # the window turns before
    assert forecast(NanoUsd(6_000), NanoUsd(0), 900, day, now) is None
    assert forecast(NanoUsd(0), NanoUsd(0), 900, day, now) == now


class OddTable(ThresholdTable):
    """Thresholds of which one cannot be written down, as where its scope is longer than any index holds."""

    odd = ""

    async def record(self, passed: Sequence[ThresholdReached]) -> list[StoredThreshold]:
        if any(each.scope == self.odd for each in passed):
            raise OverflowError
        return await super().record(passed)


async def test_an_unwritable_threshold_is_given_up_and_the_others_are_reported(
    admission: Admission, engine: AsyncEngine
) -> None:
    odd, fine, table = Rows(), Rows(), OddTable(engine)
    table.odd, seconds = odd.scope, [0.0]
    duties = Thresholds(
        redis=admission.ledger,
        rows=table,
        configuration=Configuration(fine),
        now=lambda: NOW,
        clock=lambda: seconds[0],
    )
    await spend(admission, odd, LIMIT)
    await spend(admission, fine, LIMIT)

    for failures in range(MOST_FAILURES):
        assert {event.scope for event in await admission.ledger.events(500)} == (
            {odd.scope, fine.scope} if not failures else {odd.scope}
        )
        await duties.take()
        seconds[0] += 1_000

    assert {scope for scope, _ in await table.counts()} >= {fine.scope}
    assert odd.scope not in {scope for scope, _ in await table.counts()}
    assert await admission.ledger.events(500) == []
