"""The price of a replay: a letter that cannot be read, changed or priced is counted as refused, and hurts no other."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal

from schemas.ids import JobId, TenantId
from schemas.job import Job
from schemas.lanes import Lane
from schemas.money import ZERO
from schemas.plan import Plan
from schemas.replay import DeadLetters, Estimate, Patch
from storage.dead_letters.reads import DeadLetterView, WholeLetter
from tasks.dead_letters.replay_estimate import ReplayPrices, first_jobs
from tests.support.fakes import NOW, FakeModels

WHICH = DeadLetters(tenant_id=None)


@dataclass
class Reads:
    """Dead letters with these bodies."""

    bodies: tuple[str, ...]

    async def count(self, which: DeadLetters) -> int:
        return len(self.bodies)

    async def whole(self, which: DeadLetters, *, attempts: bool = True) -> AsyncIterator[WholeLetter]:
        for number, body in enumerate(self.bodies):
            yield a_letter(number, body)


def a_letter(number: int, body: str) -> WholeLetter:
    view = DeadLetterView(
        id=JobId(f"job_{number}"),
        tenant_id=TenantId("default"),
        batch_id=None,
        custom_id=None,
        lane=Lane.NORMAL,
        model="small",
        prompt=None,
        reason="refused",
        fingerprint=None,
        cause=None,
        message=None,
        tries=1,
        attempts=1,
        spent_nano_usd=ZERO,
        created_at=NOW,
        rested_at=NOW,
    )
    terms = {"endpoint": "/v1/chat/completions", "user": None, "contract": None, "max_cost_nano_usd": None}
    return WholeLetter(letter=view, body=body, max_tries=1, max_reprompts=0, attempts=(), **terms)  # type: ignore[arg-type]


class Picky(FakeModels):
    """Has a bug that one request meets."""

    def plan(self, job: Job, *planned: object) -> Plan:  # type: ignore[override]  # passed through
        if "bug" in job.body:
            raise ZeroDivisionError
        return super().plan(job, *planned)  # type: ignore[arg-type,return-value]  # the same; no refusal is set


async def estimate(*bodies: str, patch: Patch | None = None) -> Estimate:
    prices = ReplayPrices(Reads(bodies), Picky([]))
    return await prices.estimate(WHICH, patch or Patch(deadline_seconds=60), NOW)


async def test_numbers_of_a_letter_keep_their_digits() -> None:
    jobs = first_jobs(Reads((f'{{"seed": {2**64}, "top_p": 1e400}}',)), WHICH, 10)

    [job] = [job async for job in jobs]

    assert job is not None
    assert job.body == {"seed": 2**64, "top_p": Decimal("1E+400")}


async def test_an_unreadable_or_unpriceable_letter_is_refused_and_others_priced() -> None:
    told = await estimate('{"seed": 1e99999999}', '{"bug": 1}', "{}", "{}")

    assert (told.jobs, told.priced, told.refused) == (4, 4, 2)
    assert told.one_call_nano_usd == 2 * 300


async def test_an_unchangeable_letter_is_refused_and_the_others_are_priced() -> None:
    patch = Patch(deadline_seconds=60, parameters={"temperature": 0})

    told = await estimate("[]", "[1]", "{}", patch=patch)

    assert (told.priced, told.refused, told.one_call_nano_usd) == (3, 1, 2 * 300)
