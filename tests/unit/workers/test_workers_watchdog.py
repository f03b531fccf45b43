import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from workers.lifespan import Lifespan
from workers.watchdog import ALARM_SECONDS, SILENCE_SECONDS, Alarm, watch


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
    watching = asyncio.create_task(watch(lambda delay: observed.done() or observed.set_result(delay)))
    await asyncio.sleep(0)

    time.sleep(0.2)  # noqa: ASYNC251 - the fault that the watchdog is for

    assert await observed > 0.05
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


async def test_a_lifespan_has_a_value_only_while_it_is_open() -> None:
    @asynccontextmanager
    async def house() -> AsyncIterator[str]:
        yield "house"

    lifespan, opened, ending = Lifespan(house), asyncio.Event(), asyncio.Event()
    with pytest.raises(RuntimeError, match="not open"):
        _ = lifespan.value

    staying = asyncio.create_task(lifespan.stay_open(opened.set, ending))
    await opened.wait()
    assert lifespan.value == "house"
    ending.set()
    await staying
    with pytest.raises(RuntimeError, match="not open"):
        _ = lifespan.value
