"""The gate of one process over a scripted shared one: where it waits, what it remembers, and what it gives back."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from admission.local_gate import HOLD_SECONDS, LONGEST_JITTER_MS, SHARE_WAITERS_PART, LocalGate
from admission.remembered_waits import LONGEST_MEMORY_SECONDS
from schemas.admission import Ask, Grant, Penalty, Refusal, RefusalReason, SettleKind, Settlement, Wait, WaitReason
from schemas.errors import RedisUnavailable
from schemas.ids import AttemptId, JobId, TenantId
from schemas.job import Target
from schemas.lanes import Lane
from schemas.money import NanoUsd
from schemas.tenants import TenantShare
from tests.support.admission_fixture import a_counter, an_ask
from tests.support.virtual_time import in_virtual_time

TARGET = Target(account="acme", model="m")
BUSY = WaitReason.TOKENS
OF_GREEDY = TenantShare(tenant_id=TenantId("greedy"), tokens_per_minute=1)


@dataclass
class ScriptedGate:
    """Answers what it is told, then grants; an answer may take its time. Remembers who asked when."""

    answers: list[int | Wait | Refusal | RedisUnavailable] = field(default_factory=list)
    grant_wait_ms: int = 0
    reply_seconds: float = 0.0
    epoch: int = 1
    asked: list[tuple[float, Ask]] = field(default_factory=list)
    settled: list[Settlement] = field(default_factory=list)
    live: dict[AttemptId, str] = field(default_factory=dict)
    penalized: list[Target] = field(default_factory=list)

    async def admit(self, ask: Ask) -> Grant | Wait | Refusal:
        self.asked.append((asyncio.get_running_loop().time(), ask))
        await asyncio.sleep(self.reply_seconds)
        if ask.epoch != self.epoch:
            return Refusal(reason=RefusalReason.STALE_EPOCH, scope=str(self.epoch))
        answer = self.answers.pop(0) if self.answers else None
        match answer:
            case RedisUnavailable():
                raise answer
            case Refusal() | Wait():
                return answer
            case int():
                return Wait(retry_after_ms=answer, reason=BUSY)
        return Grant(
            stamp=ask.attempt_id,
            wait_ms=self.grant_wait_ms,
            tokens=ask.tokens,
            cost_nano_usd=ask.cost_nano_usd,
            target=ask.target,
            epoch=ask.epoch,
        )

    async def settle(self, settlement: Settlement) -> bool:
        self.settled.append(settlement)
        return True

    async def stamps_of(self, bucket: Target, attempts: Collection[AttemptId]) -> list[tuple[AttemptId, str]]:
        return [(name, stamp) for name, stamp in self.live.items() if name in attempts]

    async def penalize(self, target: Target, penalty: Penalty) -> None:
        self.penalized.append(target)

    async def doubt_account(self, account: str, reason: str, job_id: JobId) -> bool:
        raise NotImplementedError


def a_gate(shared: ScriptedGate, jitter: Callable[[], float] = lambda: 0.0) -> LocalGate:
    return LocalGate(shared, jitter=jitter)


def a_settlement(actual: int = 7) -> Settlement:
    grant = Grant(stamp="s", wait_ms=0, tokens=1, cost_nano_usd=NanoUsd(7), target=TARGET, epoch=1)
    return Settlement(grant=grant, kind=SettleKind.POST, actual_nano_usd=NanoUsd(actual))


def now() -> float:
    return asyncio.get_running_loop().time()


def test_it_sleeps_to_its_ticket_and_asks_again_with_it() -> None:
    shared = ScriptedGate([300, 700])

    answer = in_virtual_time(a_gate(shared).admit(an_ask()))

    assert isinstance(answer, Grant)
    assert [(round(at, 3), ask.has_ticket, ask.waited_ms) for at, ask in shared.asked] == [
        (0.0, False, 0),
        (0.3, True, 300),
        (1.0, True, 1_000),
    ]


def test_a_wait_for_the_share_of_a_tenant_gives_no_ticket_of_the_target() -> None:
    shared = ScriptedGate([Wait(retry_after_ms=300, reason=WaitReason.TENANT_REQUESTS), 700])

    in_virtual_time(a_gate(shared).admit(an_ask(share=OF_GREEDY)))

    assert [(ask.has_ticket, ask.has_share_ticket) for _, ask in shared.asked] == [
        (False, False),
        (False, True),
        (True, True),
    ]


def test_only_so_many_wait_in_place_for_the_shares_of_their_tenants() -> None:
    used_up = Wait(retry_after_ms=300, reason=WaitReason.TENANT_IN_FLIGHT)
    shared = ScriptedGate([used_up, used_up])
    gate = LocalGate(shared, jitter=lambda: 0.0, slots=SHARE_WAITERS_PART)

    async def two() -> tuple[list[object], float]:
        waiting = asyncio.create_task(gate.admit(an_ask(share=OF_GREEDY)))
        await asyncio.sleep(0.1)
        beyond = await gate.admit(an_ask(share=OF_GREEDY))
        return [beyond, await waiting], now()

    [beyond, waited], ended = in_virtual_time(two())

    assert beyond == replace(used_up, retry_after_ms=HOLD_SECONDS * 1_000)
    assert isinstance(waited, Grant)
    assert ended == pytest.approx(0.3)


def test_a_used_up_share_keeps_nobody_else_from_asking() -> None:
    shared = ScriptedGate([Wait(retry_after_ms=60_000, reason=WaitReason.TENANT_TOKENS)])

    async def one_after_the_other() -> list[Grant | Wait | Refusal]:
        gate = a_gate(shared)
        shares = (OF_GREEDY, OF_GREEDY, None, replace(OF_GREEDY, tenant_id=TenantId("modest")))
        return [await gate.admit(an_ask(number, share=share)) for number, share in enumerate(shares)]

    answers = in_virtual_time(one_after_the_other())

    assert [type(answer) for answer in answers] == [Wait, Wait, Grant, Grant]
    assert len(shared.asked) == 3


def test_jitter_never_lets_it_come_before_its_slot() -> None:
    shared = ScriptedGate([300])

    in_virtual_time(a_gate(shared, jitter=lambda: 0.5).admit(an_ask()))

    assert shared.asked[1][0] == pytest.approx(0.3 + LONGEST_JITTER_MS / 2_000)


def test_a_wait_beyond_the_hold_time_is_handed_out_at_once() -> None:
    shared = ScriptedGate([1_500, 600])

    async def admit() -> tuple[Grant | Wait | Refusal, float]:
        return await a_gate(shared).admit(an_ask()), now()

    answer, at = in_virtual_time(admit())

    assert answer == Wait(retry_after_ms=600, reason=BUSY)
    assert at == pytest.approx(1.5)


def test_a_long_wait_is_remembered_for_its_lane_with_the_time_it_ends() -> None:
    shared = ScriptedGate([60_000])
    gate = a_gate(shared)

    async def admit() -> tuple[Grant | Wait | Refusal, Grant | Wait | Refusal]:
        await gate.admit(an_ask(1))
        await asyncio.sleep(0.4)
        return await gate.admit(an_ask(2)), await gate.admit(an_ask(3, lane=Lane.HIGH))

    same_lane, other_lane = in_virtual_time(admit())

    assert same_lane == Wait(retry_after_ms=59_600, reason=BUSY)
    assert isinstance(other_lane, Grant)
    assert [ask.attempt_id for _, ask in shared.asked] == ["att_1", "att_3"]


def test_waits_from_memory_are_spread_so_that_nobody_wakes_together() -> None:
    shared, chances = ScriptedGate([60_000]), iter([0.0, 0.25, 0.75])
    gate = a_gate(shared, jitter=lambda: next(chances))

    async def admit() -> list[Grant | Wait | Refusal]:
        return [await gate.admit(an_ask(number)) for number in range(3)]

    _, second, third = in_virtual_time(admit())

    assert second == Wait(retry_after_ms=60_250, reason=BUSY)
    assert third == Wait(retry_after_ms=60_750, reason=BUSY)


def test_a_long_wait_is_believed_for_a_second_at_most() -> None:
    shared = ScriptedGate([60_000])
    gate = a_gate(shared)

    async def admit() -> Grant | Wait | Refusal:
        await gate.admit(an_ask(1))
        await asyncio.sleep(LONGEST_MEMORY_SECONDS + 0.01)
        return await gate.admit(an_ask(2))

    assert isinstance(in_virtual_time(admit()), Grant)


def test_a_wait_that_the_next_can_hold_out_is_not_remembered() -> None:
    shared = ScriptedGate([1_900, 200])
    gate = a_gate(shared)

    async def admit() -> Grant | Wait | Refusal:
        assert isinstance(await gate.admit(an_ask(1)), Wait)
        return await gate.admit(an_ask(2))

    assert isinstance(in_virtual_time(admit()), Grant)


def test_every_wait_that_is_handed_out_lies_ahead() -> None:
    shared = ScriptedGate([2_100, 2_100, 2_100, 2_100, 2_100])
    gate = a_gate(shared)

    async def admit() -> list[Grant | Wait | Refusal]:
        answers = []
        for number in range(40):
            answers.append(await gate.admit(an_ask(number)))
            await asyncio.sleep(0.01)
        return answers

    waits = [answer for answer in in_virtual_time(admit()) if isinstance(answer, Wait)]
    assert waits
    assert all(wait.retry_after_ms >= HOLD_SECONDS * 1_000 for wait in waits)


def test_a_future_grant_has_been_slept_when_it_is_returned() -> None:
    shared = ScriptedGate(grant_wait_ms=40)

    async def admit() -> float:
        await a_gate(shared).admit(an_ask())
        return now()

    assert in_virtual_time(admit()) == pytest.approx(0.04)


def test_whoever_is_cancelled_before_his_slot_gives_the_grant_back() -> None:
    shared = ScriptedGate(grant_wait_ms=40)
    gate = a_gate(shared)

    async def cancelled() -> None:
        waiting = asyncio.create_task(gate.admit(an_ask()))
        await asyncio.sleep(0.02)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await gate.aclose()

    in_virtual_time(cancelled())

    assert [(done.grant.stamp, done.kind) for done in shared.settled] == [("att_1", SettleKind.RELEASE)]


def test_whoever_is_cancelled_while_asking_gives_back_what_he_is_granted() -> None:
    shared = ScriptedGate(reply_seconds=0.5)
    gate = a_gate(shared)

    async def cancelled() -> None:
        asking = asyncio.create_task(gate.admit(an_ask()))
        await asyncio.sleep(0.1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await gate.aclose()

    in_virtual_time(cancelled())

    assert [(done.grant.stamp, done.kind) for done in shared.settled] == [("att_1", SettleKind.RELEASE)]


@pytest.mark.parametrize("answer", [300, Refusal(reason=RefusalReason.NOT_READY), RedisUnavailable()])
def test_an_ask_cancelled_without_a_grant_gives_nothing_back(
    answer: int | Refusal | RedisUnavailable,
) -> None:
    shared = ScriptedGate([answer], reply_seconds=0.5)
    gate = a_gate(shared)

    async def cancelled() -> None:
        asking = asyncio.create_task(gate.admit(an_ask()))
        await asyncio.sleep(0.1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await gate.aclose()

    in_virtual_time(cancelled())

    assert shared.settled == []


def test_cancelled_while_waiting_for_a_slot_nothing_is_owed() -> None:
    shared = ScriptedGate([500])
    gate = a_gate(shared)

    async def cancelled() -> None:
        waiting = asyncio.create_task(gate.admit(an_ask()))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    in_virtual_time(cancelled())

    assert shared.settled == []
    assert len(shared.asked) == 1


def test_a_process_that_knows_no_epoch_learns_it_from_its_first_refusal() -> None:
    shared = ScriptedGate(epoch=7)
    gate = a_gate(shared)

    answer = in_virtual_time(gate.admit(an_ask(epoch=gate.epoch)))

    assert isinstance(answer, Grant)
    assert (answer.epoch, gate.epoch, len(shared.asked)) == (7, 7, 2)


def test_an_older_epoch_is_a_redis_that_lost_its_memory_and_is_not_adopted() -> None:
    shared = ScriptedGate(epoch=3)
    gate = a_gate(shared)

    answer = in_virtual_time(gate.admit(an_ask(epoch=4)))

    assert answer == Refusal(reason=RefusalReason.STALE_EPOCH, scope="3")
    assert gate.epoch == 0


def test_a_refusal_is_neither_waited_for_nor_remembered() -> None:
    shared = ScriptedGate([Refusal(reason=RefusalReason.BUDGET, scope="global")])
    gate = a_gate(shared)

    async def admit() -> list[Grant | Wait | Refusal]:
        return [await gate.admit(an_ask(1)), await gate.admit(an_ask(2))]

    first, second = in_virtual_time(admit())

    assert first == Refusal(reason=RefusalReason.BUDGET, scope="global")
    assert isinstance(second, Grant)


def test_a_redis_that_is_away_grants_nothing() -> None:
    gate = a_gate(ScriptedGate([RedisUnavailable()]))

    async def admit() -> Grant | Wait | Refusal:
        answer = await gate.admit(an_ask())
        await asyncio.sleep(1)
        await gate.aclose()
        return answer

    assert in_virtual_time(admit()) == Refusal(reason=RefusalReason.NOT_READY)


@dataclass
class AwayGate(ScriptedGate):
    """A shared gate without Redis, as long as it is away."""

    away: bool = True
    stops: bool = False

    async def settle(self, settlement: Settlement) -> bool:
        self._reach()
        return await super().settle(settlement)

    async def penalize(self, target: Target, penalty: Penalty) -> None:
        self._reach()

    async def doubt_account(self, account: str, reason: str, job_id: JobId) -> bool:
        self._reach()
        return self.stops

    def _reach(self) -> None:
        if self.away:
            raise RedisUnavailable


async def test_settlements_wait_for_redis_and_one_says_so() -> None:
    shared, settlement = AwayGate(), a_settlement()
    gate = a_gate(shared)

    with capture_logs() as logs:
        settled = [await gate.settle(settlement), await gate.settle(settlement)]
        shared.away = False
        settled.append(await gate.settle(settlement))
        shared.away = True
        settled.append(await gate.settle(settlement))

    assert settled == [False, False, True, False]
    assert [event["event"] for event in logs] == ["settlements_wait_for_redis"] * 2


async def test_a_cost_beyond_its_reservation_is_logged_and_settled() -> None:
    shared = ScriptedGate()

    with capture_logs() as logs:
        assert await a_gate(shared).settle(a_settlement(actual=8))

    [event] = logs
    assert (event["event"], event["reserved_usd"], event["cost_usd"]) == (
        "cost_beyond_reservation",
        "0.000000007",
        "0.000000008",
    )


async def test_penalties_and_doubts_are_lost_without_redis() -> None:
    gate = a_gate(AwayGate())

    with capture_logs() as logs:
        await gate.penalize(TARGET, Penalty(wait_ms=1))
        assert not await gate.doubt_account("acme", "invalid_api_key", JobId("job_1"))

    assert [event["event"] for event in logs] == ["penalty_lost", "doubt_lost"]


@pytest.mark.parametrize(("stops", "said"), [(False, "account_doubted"), (True, "account_stopped")])
async def test_a_doubted_account_is_logged(*, stops: bool, said: str) -> None:
    gate = a_gate(AwayGate(away=False, stops=stops))

    with capture_logs() as logs:
        assert await gate.doubt_account("acme", "invalid_api_key", JobId("job_1")) is stops

    assert [event["event"] for event in logs] == [said]


def test_a_reservation_whose_grant_was_never_heard_is_given_back_soon() -> None:
    shared = ScriptedGate([RedisUnavailable()], live={AttemptId("att_1"): "att_1|100|0|1|1|100|0"})
    gate = a_gate(shared)

    async def lose() -> None:
        with pytest.raises(RedisUnavailable):
            await gate.wait_for_grant(an_ask(1), HOLD_SECONDS)
        await asyncio.sleep(1)
        await gate.aclose()

    in_virtual_time(lose())

    assert [(done.grant.stamp, done.kind) for done in shared.settled] == [("att_1|100|0|1|1|100|0", SettleKind.RELEASE)]


def test_what_waits_over_the_end_of_a_window_is_asked_about_in_the_new_one() -> None:
    midnight = datetime(2026, 11, 25, tzinfo=UTC)
    counter = replace(a_counter(100), ends_at=midnight)
    clock = [midnight - timedelta(seconds=0.2)]
    shared = ScriptedGate([300])
    gate = LocalGate(shared, jitter=lambda: 0.0, now=lambda: clock[0] + timedelta(seconds=now()))

    answer = in_virtual_time(gate.admit(an_ask(1, counters=(counter,))))

    assert isinstance(answer, Refusal)
    assert (answer.reason, answer.waited_for) == (RefusalReason.STALE_WINDOW, BUSY)
    assert len(shared.asked) == 1


def test_a_family_is_asked_for_remembered_and_frozen_as_one() -> None:
    shared = ScriptedGate([60_000])
    gate = LocalGate(shared, jitter=lambda: 0.0, family_of=lambda _: "large")
    other = Target(account="acme", model="another")

    async def admit() -> list[Grant | Wait | Refusal]:
        await gate.penalize(other, Penalty(wait_ms=1))
        return [await gate.admit(an_ask(1)), await gate.admit(an_ask(2, target=other))]

    answers = in_virtual_time(admit())

    assert [type(answer) for answer in answers] == [Wait, Wait]
    assert [ask.bucket for _, ask in shared.asked] == [Target(account="acme", model="large")]
    assert shared.penalized == [Target(account="acme", model="large")]
