"""Opening an account tells the gate and wakes those that wait for it, under every name that may lead there."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pytest

from schemas.errors import NotFound, RedisUnavailable
from schemas.job import Target
from storage.queue.early_wake import Change, Waiters
from tasks.operations.accounts import Accounts

CHAINS = {
    "m": (Target(account="a", model="m"),),
    "alias": (Target(account="b", model="n"), Target(account="a", model="m")),
    "apart": (Target(account="b", model="n"),),
}


@dataclass
class Stores:
    stopped: dict[str, str] = field(default_factory=dict)
    away: bool = False
    woken: list[Waiters] = field(default_factory=list)

    async def open_account(self, account: str) -> str | None:
        if self.away:
            raise RedisUnavailable
        return self.stopped.pop(account, None)

    async def note(self, changes: Sequence[Change], waiters: Collection[Waiters]) -> None:
        assert not changes
        self.woken += waiters

    def accounts(self) -> Accounts:
        return Accounts(self.open_account, self.note, names=CHAINS, chain=CHAINS.__getitem__)


async def test_whoever_may_be_led_there_wakes_whatever_stopped_them() -> None:
    stores = Stores({"a": "insufficient_quota", "b": "invalid_api_key"})

    opened = await stores.accounts().open("a")

    assert opened == {"id": "a", "object": "account", "state": "open", "was_stopped_for": "insufficient_quota"}
    assert stores.stopped == {"b": "invalid_api_key"}
    assert {(one.reason, one.model) for one in stores.woken} == {
        (reason, name) for reason in ("account_stopped", "money", "auth") for name in ("m", "alias")
    }


async def test_an_open_account_stays_open_and_its_jobs_are_woken_anyway() -> None:
    stores = Stores()

    opened = await stores.accounts().open("b")

    assert opened["was_stopped_for"] is None
    assert {one.model for one in stores.woken} == {"alias", "apart"}


async def test_an_account_that_is_not_there_is_answered_with_those_that_are() -> None:
    stores = Stores()

    with pytest.raises(NotFound, match=r"no account 'c'; there are: a, b\."):
        await stores.accounts().open("c")

    assert stores.woken == []


async def test_nobody_wakes_for_an_account_that_could_not_be_opened() -> None:
    stores = Stores({"a": "insufficient_quota"}, away=True)

    with pytest.raises(RedisUnavailable):
        await stores.accounts().open("a")

    assert stores.woken == []
