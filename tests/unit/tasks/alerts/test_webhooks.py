"""Events are signed so that the official SDK verifies them, and sent until they are heard."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import openai
import pytest

from config.catalogue import WebhookTable
from schemas.errors import InvalidSetting
from schemas.money import NanoUsd
from storage.ledger.budget_alerts import DELIVERED_WITHIN_SECONDS, StoredThreshold, ThresholdReached
from tasks.alerts.webhooks import Receiver, Webhooks, event_of, receiver_from
from tasks.maintenance.items import MOST_FAILURES

SECRET = base64.b64encode(bytes(range(32))).decode()
TABLE = WebhookTable(url="http://127.0.0.1:1/hook", secret_env="HOOK")


def now() -> datetime:
    return datetime.now(UTC)


def a_threshold(sends: int = 0) -> StoredThreshold:
    passed = ThresholdReached(
        scope="tenant:acme",
        window="2026-11@UTC",
        limit_nano_usd=NanoUsd(10**10),
        percent=80,
        settled_nano_usd=NanoUsd(8 * 10**9),
        full_at=None,
    )
    return StoredThreshold(id=7, passed=passed, passed_at=now(), sends=sends)


@dataclass
class Rows:
    waiting: list[StoredThreshold]
    told: list[tuple[int, bool, float]] = field(default_factory=list)

    async def due(self) -> Sequence[StoredThreshold]:
        return self.waiting

    async def sent(self, number: int, *, heard: bool, again_seconds: float = 0.0) -> None:
        self.told.append((number, heard, again_seconds))


@dataclass
class Wire:
    status: int = 200
    error: OSError | None = None
    sent: list[tuple[bytes, Mapping[str, str]]] = field(default_factory=list)

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        self.sent.append((body, headers))
        if self.error is not None:
            raise self.error
        return self.status


def receiver() -> Receiver:
    found = receiver_from(TABLE, {"HOOK": f"whsec_{SECRET}"})
    assert found is not None
    return found


async def test_the_official_sdk_verifies_what_is_sent_and_refuses_changes() -> None:
    wire = Wire()

    await Webhooks(Rows([a_threshold()]), receiver(), now=now, post=wire).deliver()

    [(body, headers)] = wire.sent
    with openai.OpenAI(api_key="none", webhook_secret=f"whsec_{SECRET}") as client:
        event = client.webhooks.unwrap(body.decode(), headers)
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.verify_signature(body.decode().replace("80", "50"), headers)
    assert event.type == event_of(a_threshold())["type"]
    assert headers["webhook-id"] == "evt_7"


@pytest.mark.parametrize("wire", [Wire(status=500), Wire(status=302), Wire(error=ConnectionRefusedError())])
async def test_what_is_not_heard_is_sent_again_later_and_later(wire: Wire) -> None:
    rows = Rows([a_threshold(sends=0), a_threshold(sends=3), a_threshold(sends=60)])

    assert await Webhooks(rows, receiver(), now=now, post=wire).deliver() == 0

    assert rows.told == [(7, False, 5.0), (7, False, 40.0), (7, False, 3_600.0)]


async def test_without_a_receiver_nothing_is_sent() -> None:
    assert await Webhooks(Rows([a_threshold()]), receiver_from(None, {}), now=now).deliver() == 0


@pytest.mark.parametrize("secret", ["", SECRET, "whsec_!!", f"whsec_{base64.b64encode(b'short').decode()}"])
def test_a_secret_that_is_missing_or_weak_is_refused_by_name(secret: str) -> None:
    with pytest.raises(InvalidSetting, match="HOOK must hold whsec_") as refused:
        receiver_from(TABLE, {"HOOK": secret})

    assert not secret or secret not in str(refused.value)


async def test_an_event_that_cannot_be_sent_is_given_up_and_holds_up_no_other() -> None:
    odd, fine = replace(a_threshold(), id=1), replace(a_threshold(), id=2)
    rows, seconds = Rows([odd, fine]), iter(range(0, 10**9, 1_000))

    async def post(_url: str, body: bytes, _headers: Mapping[str, str]) -> int:
        if b"evt_1" in body:
            raise UnicodeEncodeError("ascii", "", 0, 1, "odd")
        return 200

    webhooks = Webhooks(rows, receiver(), now=now, post=post, clock=lambda: next(seconds))
    assert await webhooks.deliver() == 1
    for _ in range(MOST_FAILURES):
        await webhooks.deliver()

    assert (1, False, DELIVERED_WITHIN_SECONDS) in rows.told
    assert (2, True, 5.0) in rows.told
