"""All keys of one call lie in one slot, as a Redis cluster demands."""

import re
import uuid
from collections.abc import Sequence

from redis.crc import key_slot

from admission.gate import Gate
from admission.keys import Keys
from admission.ledger import Ledger, OpenReservation
from admission.scripts import Script
from admission.wire import Wire, Word
from schemas.admission import BudgetCounter, Penalty
from schemas.money import NanoUsd
from tests.support.admission_fixture import TARGET, an_ask, granted, limits
from tests.support.admission_money import COUNTERS, balance_of, post


class Watching(Wire):
    """Remembers the keys of every script call."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.calls: list[tuple[str, Sequence[str]]] = []

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Word]) -> object:
        self.calls.append((script.name, keys))
        return await super().run(script, keys, args)


async def test_all_keys_of_every_call_lie_in_one_slot(redis_url: str) -> None:
    odd = BudgetCounter(scope="user:{x}", window="w{y}", limit_nano_usd=NanoUsd(100))
    async with Watching(redis_url) as wire:
        gate = Gate(wire, keys := Keys(f"odd{{}}{uuid.uuid4().hex}"))
        ledger = Ledger(wire, keys, gate)
        await ledger.rebuild(1, [balance_of(odd, 0, 0)], [], [(limits(tokens_per_minute=None), 1)])
        grant = granted(await gate.admit(an_ask(cost_nano_usd=NanoUsd(90), counters=(odd, *COUNTERS))))
        await gate.settle(post(grant, 90))
        await gate.penalize(TARGET, Penalty(wait_ms=1))
        await gate.expire()
        await ledger.pin_limits([odd])
        await ledger.rebuild(2, [], [OpenReservation(grant=grant)])

    assert {script for script, _ in wire.calls} == {
        "admit",
        "settle",
        "penalize",
        "configure",
        "expire",
        "limit",
        "rebuild",
    }
    assert len({key_slot(key.encode()) for _, names in wire.calls for key in names}) == 1
    assert all(re.fullmatch(r"\{penstock\}:[^{}]*", key) for _, names in wire.calls for key in names)
