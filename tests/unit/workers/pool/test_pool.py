"""The pool without Celery's worker: a stub hub, targets that are bridges to coroutines, and no broker."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from celery.exceptions import Terminated
from celery.worker import state
from greenlet import getcurrent
from structlog import contextvars

from config.settings import SettingError
from schemas.errors import RedisUnavailable
from schemas.lanes import Lane
from workers.pool.lifespan import Lifespan
from workers.pool.pool import TaskPool
from workers.pool.slots import Slots

DEADLINE_SECONDS = 5.0


class StubHub:
    """Runs nothing by itself; `turn` runs what was scheduled, as the hub's loop would."""

    def __init__(self) -> None:
        self._soon: list[Callable[[], object]] = []

    def call_soon(self, callback: Callable[[], object]) -> None:
        self._soon.append(callback)

    def turn(self) -> None:
        soon, self._soon = self._soon, []
        for callback in soon:
            callback()


@dataclass
class App:
    lifespan: Lifespan[str]
    slots: Slots = field(default_factory=lambda: Slots(8, 2, 2))
    drain_grace_seconds: float = 5.0
    watchdog_seconds: int = 0
    delays: list[float] = field(default_factory=list)

    def observe_loop_delay(self, seconds: float) -> None:
        self.delays.append(seconds)


class Services:
    """A lifespan that counts, and fails as often as it is told to."""

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.opened, self.closed = list(failures), 0, 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        if self.failures:
            raise self.failures.pop(0)
        self.opened += 1
        yield "services"
        self.closed += 1


def awaits(coroutine_function: Callable[..., Any]) -> Callable[..., Any]:
    """What the tracer and AsyncTask do between them."""

    def target(*args: object) -> object:
        return getcurrent().parent.switch(coroutine_function(*args))

    return target


def until(condition: Callable[[], object], hub: StubHub | None = None) -> None:
    give_up_at = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, "not in time"
        if hub is not None:
            hub.turn()
        time.sleep(0.005)


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def app(services: Services) -> App:
    return App(Lifespan(services.open))


@pytest.fixture
def hub() -> StubHub:
    return StubHub()


@pytest.fixture
def pool(app: App, hub: StubHub) -> Iterator[TaskPool]:
    pool = TaskPool(4, app=app)
    pool.start()
    pool.register_with_event_loop(hub)
    yield pool
    pool.terminate()


def test_a_message_is_answered_in_the_main_thread_with_its_return_value(pool: TaskPool, hub: StubHub) -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    answers: list[Any] = []
    pool.apply_async(awaits(double), (21,), callback=answers.append)
    until(lambda: answers, hub)

    assert answers == [42]


def test_messages_run_side_by_side_up_to_the_limit(pool: TaskPool, hub: StubHub) -> None:
    at_once, most = 0, 0

    async def work() -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1

    answers: list[Any] = []
    for _ in range(20):
        pool.apply_async(awaits(work), callback=answers.append)
    until(lambda: len(answers) == 20, hub)

    assert most == 4


def test_an_exception_is_raised_where_the_tracer_called(pool: TaskPool, hub: StubHub) -> None:
    async def fail() -> None:
        raise LookupError("no such thing")

    def tracer() -> str:
        try:
            awaits(fail)()
        except LookupError as error:
            return f"traced {error}"
        return "nothing"

    answers: list[Any] = []
    pool.apply_async(tracer, callback=answers.append)
    until(lambda: answers, hub)

    assert answers == ["traced no such thing"]


def test_a_message_that_the_tracer_gives_up_ends_with_its_error(pool: TaskPool, hub: StubHub) -> None:
    def tracer() -> None:
        raise LookupError("internal")

    errors: list[Any] = []
    pool.apply_async(tracer, error_callback=errors.append)
    until(lambda: errors, hub)

    assert "internal" in str(errors[0].exception)


def test_a_revoked_message_is_cancelled_and_the_tracer_cleans_up(pool: TaskPool, hub: StubHub, app: App) -> None:
    steps: list[str] = []

    async def sleep() -> None:
        try:
            steps.append("running")
            await asyncio.sleep(60)
        finally:
            steps.append("coroutine")

    def tracer() -> None:
        try:
            awaits(sleep)()
        finally:
            steps.append("tracer")

    errors: list[Any] = []
    running = pool.apply_async(tracer, error_callback=errors.append)
    until(lambda: "running" in steps)
    pool.terminate_job(running.pid)
    until(lambda: errors, hub)

    assert steps == ["running", "coroutine", "tracer"]
    assert isinstance(errors[0].exception.exc, Terminated)
    until(lambda: app.slots.has_room(Lane.LOW))


def test_a_message_that_is_revoked_before_it_starts_is_answered_too(pool: TaskPool, hub: StubHub) -> None:
    async def never() -> None:
        raise AssertionError

    pool.limit = 0
    errors: list[Any] = []
    running = pool.apply_async(awaits(never), error_callback=errors.append)
    pool.terminate_job(running.pid)
    pool.limit = 4
    pool.apply_async(awaits(asyncio.sleep), (0,))
    until(lambda: errors, hub)

    assert isinstance(errors[0].exception.exc, Terminated)


def test_context_passes_neither_from_the_main_thread_nor_between_messages(pool: TaskPool, hub: StubHub) -> None:
    async def bind(job_id: str) -> dict[str, Any]:
        before = contextvars.get_contextvars()
        contextvars.bind_contextvars(job_id=job_id)
        await asyncio.sleep(0)
        return before | {"mine": contextvars.get_contextvars()["job_id"]}

    answers: list[Any] = []
    pool.limit = 1
    with contextvars.bound_contextvars(of="the main thread"):
        for job_id in "abc":
            pool.apply_async(awaits(bind), (job_id,), callback=answers.append)
    until(lambda: len(answers) == 3, hub)

    assert answers == [{"mine": "a"}, {"mine": "b"}, {"mine": "c"}]


def test_a_callback_that_fails_does_not_stop_the_others(pool: TaskPool, hub: StubHub) -> None:
    def refuse(_: object) -> None:
        raise LookupError("broken")

    answers: list[Any] = []
    pool.apply_async(awaits(asyncio.sleep), (0,), callback=refuse)
    pool.apply_async(awaits(asyncio.sleep), (0,), callback=answers.append)
    until(lambda: answers, hub)


def test_a_stop_finishes_what_is_in_flight_and_then_closes_the_lifespan(
    app: App, hub: StubHub, services: Services
) -> None:
    pool = started(app, hub)
    answers: list[Any] = []

    async def look() -> str:
        await asyncio.sleep(0.05)
        assert services.closed == 0
        return app.lifespan.value

    for _ in range(10):
        pool.apply_async(awaits(look), callback=answers.append)
    pool.stop()

    assert answers == ["services"] * 10
    assert (services.opened, services.closed) == (1, 1)


def test_a_drain_that_takes_too_long_cancels_the_rest_and_answers_nobody(
    app: App, hub: StubHub, services: Services
) -> None:
    app.drain_grace_seconds = 0.05
    pool = started(app, hub)
    answers: list[Any] = []
    pool.apply_async(awaits(asyncio.sleep), (60,), callback=answers.append, error_callback=answers.append)

    began = time.monotonic()
    pool.stop()

    assert answers == []
    assert time.monotonic() - began < DEADLINE_SECONDS
    assert services.closed == 1


def test_a_second_signal_cuts_the_grace_short(app: App, hub: StubHub, services: Services) -> None:
    app.drain_grace_seconds = 60
    pool = started(app, hub)

    async def signal_twice() -> None:
        for _ in range(2):
            pool._on_shutdown_signal(how="Warm")  # noqa: SLF001 - what Celery's signal calls
        await asyncio.sleep(60)

    pool.apply_async(awaits(signal_twice))
    began = time.monotonic()
    pool.stop()

    assert time.monotonic() - began < DEADLINE_SECONDS
    assert services.closed == 1


def test_a_cold_shutdown_before_the_drain_begins_cuts_it_short(
    app: App, hub: StubHub, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.drain_grace_seconds = 60
    pool = started(app, hub)
    pool.apply_async(awaits(asyncio.sleep), (60,))
    pool._on_shutdown_signal(how="Warm")  # noqa: SLF001 - what Celery's signal calls
    pool._on_shutdown_signal(how="Cold")  # noqa: SLF001
    monkeypatch.setattr(state, "should_terminate", 0)

    began = time.monotonic()
    pool.stop()

    assert time.monotonic() - began < DEADLINE_SECONDS
    assert services.closed == 1


def test_a_store_that_is_away_is_waited_for(hub: StubHub) -> None:
    services = Services(RedisUnavailable(), ConnectionRefusedError("no"))
    pool = started(App(Lifespan(services.open)), hub)
    pool.stop()

    assert (services.opened, services.closed) == (1, 1)


def test_a_wrong_setting_ends_the_worker(hub: StubHub) -> None:
    services = Services(SettingError("PENSTOCK_SLOTS: too many"))

    with pytest.raises(SystemExit) as end:
        started(App(Lifespan(services.open)), hub)

    assert end.value.code == 6


def test_a_shutdown_while_waiting_for_a_store_ends_the_worker(hub: StubHub, monkeypatch: pytest.MonkeyPatch) -> None:
    services = Services(*[RedisUnavailable() for _ in range(50)])
    monkeypatch.setattr(state, "should_stop", 0)

    with pytest.raises(SystemExit):
        started(App(Lifespan(services.open)), hub)

    assert services.opened == 0


def test_a_blocked_loop_is_measured(pool: TaskPool, hub: StubHub, app: App) -> None:
    async def block() -> None:
        time.sleep(0.3)  # noqa: ASYNC251 - the fault that the watchdog is for

    pool.apply_async(awaits(block))

    until(lambda: max(app.delays, default=0) > 0.1)


def started(app: App, hub: StubHub) -> TaskPool:
    pool = TaskPool(16, app=app)
    pool.start()
    pool.register_with_event_loop(hub)
    return pool
