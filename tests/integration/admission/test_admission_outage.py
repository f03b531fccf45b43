"""A server of the test's own that is restarted, replaced or refuses: nothing is granted, nothing is asked twice."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from admission.connect import Admission, connected
from admission.health import complaints
from schemas.admission import Grant, RefusalReason, SettleKind, Settlement
from schemas.errors import RedisUnavailable
from schemas.ids import JobId
from schemas.money import NanoUsd
from stack.home import Home
from stack.valkey import Valkey
from tests.support.admission_fixture import a_counter, an_ask, granted, limits, refused

ANSWERS_WITHIN_SECONDS = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    home = Home(Path(tmp_path_factory.mktemp("own")))
    with home.locked(), Valkey(home).running() as running:
        yield running


@pytest.fixture
async def own(server: Valkey) -> AsyncIterator[Admission]:
    async with connected(server.url) as admission:
        await answers_again(admission)
        await admission.wire.command("FLUSHALL")
        await admission.ledger.rebuild(1, [], [])
        yield admission


async def answers_again(admission: Admission) -> None:
    async with asyncio.timeout(ANSWERS_WITHIN_SECONDS):
        while True:
            try:
                await admission.wire.command("PING")
            except RedisUnavailable:
                await asyncio.sleep(0.01)
            else:
                return


async def test_a_restarted_server_knows_every_reservation_and_settles_it(own: Admission, server: Valkey) -> None:
    budget = (a_counter(1_000),)
    await own.gate.configure(limits(tokens_per_minute=None, tokens_per_day=1_000_000), 1)
    grants = [granted(await own.gate.admit(an_ask(n, cost_nano_usd=NanoUsd(10), counters=budget))) for n in range(5)]
    before = await own.gate.snapshot(grants[0].target)

    server.stop()
    server.start()
    await answers_again(own)

    after = await own.gate.snapshot(grants[0].target)
    assert before is not None
    assert after is not None
    assert (after.in_flight, after.version) == (before.in_flight, before.version) == (5, 1)
    assert all([await own.gate.settle(Settlement(grant=one, kind=SettleKind.RELEASE)) for one in grants])
    [balance] = await own.gate.budgets(budget)
    assert (balance.settled_nano_usd, balance.reserved_nano_usd) == (0, 0)


async def test_with_the_server_away_nothing_is_granted_and_asks_fail_at_once(own: Admission, server: Valkey) -> None:
    server.stop()

    async with asyncio.timeout(5):
        answers = await asyncio.gather(*(own.gate.admit(an_ask(n)) for n in range(50)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {RedisUnavailable}

    server.start()
    await answers_again(own)
    assert isinstance(await own.gate.admit(an_ask()), Grant)


async def test_a_wiped_server_admits_nothing_until_the_ledger_is_rebuilt(own: Admission) -> None:
    await own.wire.command("FLUSHALL")

    assert refused(await own.gate.admit(an_ask())).reason is RefusalReason.NOT_READY
    assert await own.ledger.epoch() is None


async def test_a_server_that_evicts_keys_is_complained_about(own: Admission) -> None:
    await own.wire.command("CONFIG SET", "maxmemory-policy", "allkeys-lru")
    try:
        found = await complaints(own.wire)
    finally:
        await own.wire.command("CONFIG SET", "maxmemory-policy", "noeviction")

    assert [complaint for complaint in found if "allkeys-lru" in complaint]
    assert await complaints(own.wire) == []


async def test_a_replica_that_may_not_write_is_an_outage_and_not_a_bug(own: Admission) -> None:
    await own.wire.command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(RedisUnavailable):
            await own.gate.admit(an_ask())
        with pytest.raises(RedisUnavailable):
            await own.gate.doubt_account("acme", "why", JobId("job_1"))
    finally:
        await own.wire.command("REPLICAOF", "NO", "ONE")


async def test_a_full_server_is_an_outage_and_reserves_nothing(own: Admission) -> None:
    budget = (a_counter(1_000),)
    await own.wire.command("CONFIG SET", "maxmemory", "1")
    try:
        with pytest.raises(RedisUnavailable):
            await own.gate.admit(an_ask(cost_nano_usd=NanoUsd(10), counters=budget))
    finally:
        await own.wire.command("CONFIG SET", "maxmemory", "0")

    [balance] = await own.gate.budgets(budget)
    assert balance.reserved_nano_usd == 0
