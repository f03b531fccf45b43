"""What the watchdog of a loop measures, and how it ends a process. Each hung process here is a real one."""

import asyncio
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from config.deadlines import NoDeadline
from config.watchdog import ALARM_SECONDS, SILENCE_SECONDS, Alarm, Watchdog, watch
from tests.support.full_pipe import full_pipe


def test_small_delays_are_not_worth_a_line() -> None:
    assert not Alarm().hear(ALARM_SECONDS / 2, 1.0)


def test_a_late_loop_is_said_once_in_a_while_with_the_worst_since() -> None:
    alarm = Alarm()

    assert alarm.hear(0.3, 1.0)
    assert not alarm.hear(9.0, 1.0 + SILENCE_SECONDS / 2)
    assert alarm.hear(0.0, 1.1 + SILENCE_SECONDS)  # the worst of the silence is said now
    assert not alarm.hear(0.0, 1.2 + 2 * SILENCE_SECONDS)


async def test_a_blocked_loop_is_observed() -> None:
    observed: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    watching = asyncio.create_task(
        watch(lambda delay: observed.done() or observed.set_result(delay), Watchdog(0), NoDeadline())
    )
    await asyncio.sleep(0)

    time.sleep(0.2)  # noqa: ASYNC251 - the fault that the watchdog is for

    assert await observed > 0.05
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


SCRIPT = """
import asyncio, re, sys, time
from config.watchdog import watched

def stuck_in_c(): re.match("a*a*a*a*a*b", "a" * 3000)
def stuck_in_a_call(): time.sleep(60)
def stuck_in_a_log(): print("x", file=sys.stderr, flush=True)

async def healthy(slow_seconds):
    while True:
        time.sleep(slow_seconds)
        await asyncio.sleep(0.15)

async def main(seconds, work):
    async with watched(seconds) as watchdog:
        if work == "stuck_at_the_start":
            await asyncio.sleep(0.2)
            time.sleep(seconds + 1)
        watchdog.has_started()
        await asyncio.sleep(0.2)
        print("ready", flush=True)
        if work in globals():
            globals()[work]()
        await healthy(0.0 if work == "stuck_at_the_start" else float(work))

asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
"""
UNWATCHED = """
import asyncio, time
from config.watchdog import watched

async def main():
    async with watched(2) as watchdog:
        watchdog.has_started()
        await asyncio.sleep(0.2)

asyncio.run(main())
time.sleep(3)
print("alive")
"""
N_SECONDS = 3


@contextmanager
def process(seconds: int, work: str) -> Iterator["subprocess.Popen[str]"]:
    """A process whose loop does this work under a watchdog, once it is at it."""
    words = [sys.executable, "-c", SCRIPT, str(seconds), work]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert "ready\n" in iter(running.stdout.readline, "")
        try:
            yield running
        finally:
            running.kill()


def lives_for(running: "subprocess.Popen[str]", seconds: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        running.wait(seconds)
    return running.returncode is None


@pytest.mark.parametrize("work", ["stuck_in_c", "stuck_in_a_call"])
def test_a_loop_that_stands_still_ends_its_process_and_shows_its_stack(work: str) -> None:
    began = time.monotonic()

    with process(N_SECONDS, work) as running:
        _, stacks = running.communicate(timeout=3 * N_SECONDS)

    assert running.returncode == -signal.SIGALRM
    assert f"in {work}" in stacks
    assert time.monotonic() - began > N_SECONDS - 0.5


def test_a_process_that_was_suspended_for_longer_lives_on() -> None:
    if sys.platform != "linux":
        pytest.skip("the timer of other systems counts while a process is suspended")
    with process(N_SECONDS, "0") as running:
        running.send_signal(signal.SIGSTOP)
        assert lives_for(running, N_SECONDS + 1)

        running.send_signal(signal.SIGCONT)

        assert lives_for(running, N_SECONDS + 1)


def test_a_loop_that_is_merely_slow_lives_on() -> None:
    with process(N_SECONDS, "1.5") as running:
        assert lives_for(running, 2 * N_SECONDS)


def test_what_takes_long_at_the_start_ends_nothing() -> None:
    with process(2, "stuck_at_the_start") as running:
        assert lives_for(running, 1)


def test_without_a_watchdog_a_loop_may_stand_still() -> None:
    with process(0, "stuck_in_a_call") as running:
        assert lives_for(running, 2)


def test_a_loop_that_hangs_on_its_own_log_is_ended_too() -> None:
    words = [sys.executable, "-c", SCRIPT, "2", "stuck_in_a_log"]

    with full_pipe() as stderr:
        done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=stderr, check=False, timeout=20)

    assert done.returncode == -signal.SIGALRM


def test_the_deadline_ends_with_the_watch() -> None:
    done = subprocess.run([sys.executable, "-c", UNWATCHED], capture_output=True, text=True, check=True)

    assert done.stdout == "alive\n"


def test_sigalrm_ends_a_process_whose_starter_ignored_it() -> None:
    words = [sys.executable, "-c", SCRIPT, "2", "stuck_in_a_call"]
    ignoring = (
        f"import os, signal; signal.signal(signal.SIGALRM, signal.SIG_IGN); os.execv({sys.executable!r}, {words})"
    )

    done = subprocess.run([sys.executable, "-c", ignoring], capture_output=True, check=False, timeout=20)

    assert done.returncode == -signal.SIGALRM


def test_the_first_process_of_a_container_ends_too() -> None:
    contained = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*contained, "true"], check=False).returncode != 0:
        pytest.skip("this system lets nobody make a namespace of processes")
    words = [*contained, sys.executable, "-c", SCRIPT, "2", "stuck_in_c"]

    done = subprocess.run(words, capture_output=True, check=False, timeout=20)

    assert done.returncode == signal.SIGALRM
    assert b"in stuck_in_c" in done.stderr
