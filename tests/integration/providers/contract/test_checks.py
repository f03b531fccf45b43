"""Replies that are checked in processes of their own: given up in time, and nobody else suffers from it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from providers.contract.checks.checks import LONGEST_WAIT_SECONDS, Checks
from providers.contract.checks.child import MAX_MEMORY_BYTES
from schemas.ids import TenantId
from schemas.jsons import JsonObject
from schemas.outcome import Invalid, Judged, Valid
from schemas.reply import Reply
from tests.support.schemas import TREE, branching_ifs

ALICE, BOB, CAROL = TenantId("alice"), TenantId("bob"), TenantId("carol")
SECONDS = 0.5
GIVEN_UP = f"The reply could not be checked within {SECONDS:g} s."
HANG_SECONDS = 60.0
ENDLESS = branching_ifs()


def reply(text: str) -> Reply:
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    return Reply(body={"choices": [choice]}, text=text, finish_reason="stop", refusal=None, usage=None, model="m")


@pytest.fixture
async def checks() -> AsyncIterator[Checks]:
    checks = Checks(seconds=SECONDS)
    yield checks
    await checks.aclose()


async def good(checks: Checks, tenant_id: TenantId) -> Judged:
    return await checks.judge(reply('{"kids": [{"kids": []}]}'), TREE, tenant_id)


async def bad(checks: Checks, tenant_id: TenantId, schema: JsonObject = ENDLESS) -> Judged:
    return await checks.judge(reply("{}"), schema, tenant_id)


def pid_of(checks: Checks) -> int:
    pid = checks.usual.child.pid
    assert pid is not None
    return pid


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        while not condition():  # noqa: ASYNC110 - of another process, which sets no event here
            await asyncio.sleep(0.01)


async def test_a_reply_is_judged_as_it_would_be_here(checks: Checks) -> None:
    raw = reply('Sure: {"kids": [{"kids": []}]}')

    direct, recovered = await good(checks, ALICE), await checks.judge(raw, TREE, ALICE)
    wrong = await checks.judge(reply('{"kids": 1}'), TREE, ALICE)

    assert isinstance(direct, Valid)
    assert direct.output == {"kids": [{"kids": []}]}
    assert isinstance(recovered, Valid)
    assert (recovered.recovery, recovered.reply.text) == ("embedded", '{"kids":[{"kids":[]}]}')
    assert wrong == Invalid(reply=reply('{"kids": 1}'), complaint="kids: 1 is not of type 'array'")


async def test_no_process_runs_before_it_is_needed_and_one_serves_all(checks: Checks) -> None:
    assert checks.usual.child.pid is None

    await asyncio.gather(*(good(checks, TenantId(f"t{number}")) for number in range(20)))

    first = checks.usual.child.pid
    await good(checks, ALICE)
    assert checks.usual.child.pid == first is not None
    assert checks.slow.child.pid is None


async def test_an_idle_process_ends_and_another_serves_the_next_check() -> None:
    checks = Checks(seconds=SECONDS, idle_seconds=0.05)
    await good(checks, ALICE)
    first = pid_of(checks)

    await until(lambda: not is_running(first))

    assert isinstance(await good(checks, ALICE), Valid)
    await checks.aclose()
    assert not is_running(first)


async def test_a_check_that_takes_too_long_is_given_up_and_the_others_go_on(checks: Checks) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        hung, *others = await asyncio.gather(bad(checks, ALICE), *(good(checks, BOB) for _ in range(10)))

    assert hung == Invalid(reply=reply("{}"), complaint=GIVEN_UP)
    assert all(isinstance(other, Valid) for other in others)


async def test_a_tenant_whose_check_was_given_up_keeps_nobody_waiting_any_more(checks: Checks) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        given_up = await asyncio.gather(*(bad(checks, ALICE) for _ in range(4)))
        others = await good(checks, BOB), await good(checks, ALICE)

    assert [judged.complaint for judged in given_up if isinstance(judged, Invalid)] == [GIVEN_UP] * 4
    assert all(isinstance(judged, Valid) for judged in others)
    assert checks.slow.child.pid is not None
    assert pid_of(checks) != checks.slow.child.pid


async def test_tenants_take_turns(checks: Checks) -> None:
    order: list[TenantId] = []

    async def one(tenant_id: TenantId) -> None:
        await good(checks, tenant_id)
        order.append(tenant_id)

    await asyncio.gather(*(one(ALICE) for _ in range(20)), one(BOB), one(CAROL))

    assert max(order.index(BOB), order.index(CAROL)) <= 4


async def test_a_check_that_has_waited_too_long_for_the_slow_process_is_given_up() -> None:
    now = [0.0]
    checks = Checks(seconds=SECONDS, clock=lambda: now[0])
    async with asyncio.timeout(HANG_SECONDS):
        await bad(checks, ALICE)
        first = asyncio.create_task(bad(checks, ALICE))
        second = asyncio.create_task(good(checks, ALICE))
        await until(lambda: checks.slow.child.pid)
        now[0] += LONGEST_WAIT_SECONDS + 1

        assert await second == Invalid(reply=reply('{"kids": [{"kids": []}]}'), complaint=GIVEN_UP)
        await first
    await checks.aclose()


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_killed_process_costs_nobody_a_verdict(checks: Checks, signal_number: int) -> None:
    await good(checks, ALICE)
    child = pid_of(checks)
    os.kill(child, signal.SIGSTOP)
    waiting = [asyncio.create_task(good(checks, tenant)) for tenant in (ALICE, BOB, CAROL)]
    await asyncio.sleep(0)
    os.kill(child, signal_number)
    with suppress(ProcessLookupError):  # SIGKILL needs no SIGCONT, and may have ended it already
        os.kill(child, signal.SIGCONT)

    async with asyncio.timeout(HANG_SECONDS):
        assert all(isinstance(judged, Valid) for judged in await asyncio.gather(*waiting))


async def test_a_process_that_hangs_is_replaced(checks: Checks) -> None:
    await good(checks, ALICE)
    child = pid_of(checks)
    os.kill(child, signal.SIGSTOP)

    async with asyncio.timeout(HANG_SECONDS):
        hung, other = await asyncio.gather(good(checks, ALICE), good(checks, BOB))

    assert isinstance(hung, Invalid)
    assert isinstance(other, Valid)
    assert pid_of(checks) != child


async def test_the_process_ends_when_its_parent_closes_the_pipe_during_a_check() -> None:
    code = (
        "import asyncio, os\n"
        "from providers.contract.checks.checks import Checks\n"
        "from tests.integration.providers.contract.test_checks import ALICE, bad, good\n"
        "async def main():\n"
        "    checks = Checks(seconds=0.5)\n"
        "    await good(checks, ALICE)\n"
        "    task = asyncio.create_task(bad(checks, ALICE))\n"
        "    await asyncio.sleep(0.1)\n"
        "    print(checks.usual.child.pid, flush=True)\n"
        "    os._exit(0)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    output, _ = await parent.communicate()

    await until(lambda: not is_running(int(output.split()[-1])))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_the_process_inherits_no_secret(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_ADMIN_KEY", "a-secret-of-ours")
    await good(checks, ALICE)

    child = pid_of(checks)

    environment = Path(f"/proc/{child}/environ").read_bytes()  # noqa: ASYNC240 - a file of the kernel
    names = {line.partition(b"=")[0] for line in environment.split(b"\0")}
    assert names <= {b"PATH", b"PYTHONPATH", b"PYTHONHOME", b"LD_LIBRARY_PATH", b"LANG", b"LC_ALL", b""}


async def test_a_cancelled_caller_gets_the_verdict_and_is_cancelled_next_step(checks: Checks) -> None:
    written: list[Judged] = []

    async def job() -> None:
        written.append(await good(checks, ALICE))
        await asyncio.sleep(HANG_SECONDS)

    task = asyncio.create_task(job())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(written[0], Valid)


async def test_a_deadline_that_passes_meanwhile_is_still_told_as_one(checks: Checks) -> None:
    async def job() -> None:
        async with asyncio.timeout(0.01):
            await good(checks, ALICE)
            await asyncio.sleep(HANG_SECONDS)

    with pytest.raises(TimeoutError):
        await job()


@pytest.mark.parametrize(
    "text",
    [
        "{" + "word " * 19_000,
        '{"a": "' + '\\"' * 20_000,
        "[" * 300_000,
        '```json\n{"a":1,\n' * 3_000,
        json.dumps({"kids": [{"kids": []}] * 30_000}),
        '{"kids": ' + "9" * 100_000 + "}",
        '{"kids": "\\ud83d"}',
        '{"a": "' + "x" * 1_500_000 + '"}',
        '{"kids":[' * 400 + "]}" * 400,
    ],
)
async def test_whatever_a_reply_says_there_is_a_verdict(checks: Checks, text: str) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        judged = await checks.judge(reply(text), TREE, ALICE)

    assert isinstance(judged, Valid | Invalid)


def test_the_memory_of_the_process_is_bounded() -> None:
    assert MAX_MEMORY_BYTES <= 1_000_000_000
