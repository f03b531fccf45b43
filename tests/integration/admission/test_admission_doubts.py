"""An account is stopped by a second job's word, and not again by those that have stopped it before."""

from admission.connect import Admission
from admission.gate import DOUBT_SECONDS
from schemas.ids import JobId
from tests.support.admission_fixture import TARGET, an_ask, granted, refused


async def doubted(admission: Admission, *jobs: str) -> list[bool]:
    return [await admission.gate.doubt_account(TARGET.account, "invalid_api_key", JobId(job)) for job in jobs]


async def test_a_second_job_stops_the_account_and_a_doubt_passes_by_itself(admission: Admission) -> None:
    assert await doubted(admission, "a", "a") == [False, False]
    kept = await admission.wire.command("TTL", admission.keys.doubt(TARGET.account))
    granted(await admission.gate.admit(an_ask(1)))

    assert await doubted(admission, "b", "a", "c") == [True, True, True]

    assert 0 < kept <= DOUBT_SECONDS
    assert refused(await admission.gate.admit(an_ask(2))).scope == "invalid_api_key"


async def test_jobs_that_stopped_an_account_do_not_stop_it_again_once_opened(admission: Admission) -> None:
    await doubted(admission, "a", "b")
    while_stopped = await admission.wire.command("TTL", admission.keys.doubt(TARGET.account))
    await admission.gate.open_account(TARGET.account)
    opened = await admission.wire.command("TTL", admission.keys.doubt(TARGET.account))

    assert await doubted(admission, "a", "b", "a", "b") == [False] * 4
    granted(await admission.gate.admit(an_ask(1)))
    assert await doubted(admission, "c", "a", "d") == [False, False, True]
    assert while_stopped == -1
    assert 0 < opened <= DOUBT_SECONDS


async def test_doubts_of_two_accounts_are_apart(admission: Admission) -> None:
    told = [await admission.gate.doubt_account(account, "why", JobId(account)) for account in ("one", "other")]

    assert told == [False, False]
