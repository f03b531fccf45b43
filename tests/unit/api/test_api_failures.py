"""Wrong keys: remembered for a moment, counted by address, and never at the cost of right ones."""

from datetime import UTC, datetime

import httpx2
import pytest
from fastapi import FastAPI, Response

from api.auth import BELIEVED_SECONDS, DISBELIEVED_SECONDS, MOST_BELIEVED, Authenticator, Scraper
from api.errors import install
from api.failures import FAILURE_BURST, FAILURES_PER_SECOND, MOST_ADDRESSES, Failures, network_of
from schemas.errors import TooManyFailures, Unauthenticated
from schemas.ids import KeyId, TenantId
from storage.tenancy.keys import StoredKey

RIGHT = StoredKey(
    id=KeyId("key_1"),
    tenant_id=TenantId("acme"),
    prefix="pk_1",
    scopes=frozenset({"submit"}),
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    revoked_at=None,
)
HERE, THERE = "10.0.0.1", "10.0.0.2"


class CountedKeys:
    """A store with one key that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def find(self, secret: str) -> StoredKey | None:
        self.asked += 1
        return RIGHT if secret == "pk_right" else None


class Trial:
    """An authenticator, its store and its clock."""

    def __init__(self) -> None:
        self.keys, self.now = CountedKeys(), 100.0
        self.authenticator = Authenticator(self.keys, "pk_admin", clock=lambda: self.now)  # type: ignore[arg-type]  # asked for `find` alone

    async def wrong(self, secret: str, address: str = HERE) -> type[Exception] | None:
        """How a secret is refused."""
        try:
            await self.authenticator.caller(secret, address=address)
        except (Unauthenticated, TooManyFailures) as error:
            return type(error)
        return None


async def test_a_wrong_key_is_looked_up_once_in_a_few_seconds() -> None:
    trial = Trial()

    for _ in range(5):
        assert await trial.wrong("pk_wrong") is Unauthenticated
    assert trial.keys.asked == 1

    trial.now += DISBELIEVED_SECONDS
    assert await trial.wrong("pk_wrong") is Unauthenticated
    assert trial.keys.asked == 2


async def test_an_address_that_guesses_keys_waits_and_costs_no_look_ups() -> None:
    trial = Trial()
    refusals = [await trial.wrong(f"pk_{number}") for number in range(FAILURE_BURST + 50)]

    assert refusals == [Unauthenticated] * FAILURE_BURST + [TooManyFailures] * 50
    assert trial.keys.asked == FAILURE_BURST
    trial.now += 1
    assert await trial.wrong("pk_again") is Unauthenticated


async def test_a_right_key_is_let_in_from_an_address_that_guesses() -> None:
    trial = Trial()
    assert await trial.wrong("pk_right") is None
    for number in range(FAILURE_BURST + 1):
        await trial.wrong(f"pk_{number}")

    trial.now += BELIEVED_SECONDS / FAILURES_PER_SECOND
    assert await trial.wrong("pk_right") is None
    trial.authenticator.forget()
    assert await trial.wrong("pk_right") is None
    assert await trial.wrong("pk_admin") is None


async def test_other_addresses_do_not_wait_for_one_that_guesses() -> None:
    trial = Trial()
    for number in range(FAILURE_BURST + 1):
        await trial.wrong(f"pk_{number}")

    assert await trial.wrong("pk_right", THERE) is None
    assert await trial.wrong("pk_other", THERE) is Unauthenticated


async def scraped(trial: Trial, secret: str, address: str) -> int:
    """The status of a scrape from an address."""
    app = FastAPI()
    app.state.authenticator = trial.authenticator
    install(app)

    async def metrics(_: Scraper) -> Response:
        return Response()

    app.get("/metrics")(metrics)
    transport = httpx2.ASGITransport(app, client=(address, 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://penstock") as client:
        answer = await client.get("/metrics", headers={"authorization": f"Bearer {secret}"})
    return answer.status_code


async def test_scrapers_of_other_addresses_do_not_wait_for_one_that_guesses() -> None:
    trial = Trial()
    for number in range(FAILURE_BURST):
        await scraped(trial, f"pk_{number}", HERE)

    assert await scraped(trial, "pk_other", HERE) == 429
    assert await scraped(trial, "pk_other", THERE) == 401
    assert await scraped(trial, "pk_admin", HERE) == 200


async def test_wrong_keys_and_addresses_are_remembered_within_a_bound() -> None:
    failures = Failures()
    for number in range(MOST_ADDRESSES + 10):
        failures.add(str(number), 0)
    for _ in range(FAILURE_BURST):
        failures.add("0", 0)

    assert len(failures) == MOST_ADDRESSES
    assert failures.too_many("0", 0)
    assert MOST_BELIEVED <= 10_000


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("a:b", "a:b"),
        ("", ""),
    ],
)
def test_ipv6_addresses_are_counted_by_their_network(address: str, network: str) -> None:
    assert network_of(address) == network
