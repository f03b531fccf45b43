"""Which connections have a place, which one makes room, and until when a body must come."""

import asyncio
from itertools import count

import pytest

from api.server.connections import Connections
from api.server.limits import SPARE_CONNECTIONS, Progress, connections_within
from config.descriptors import BESIDE_CALLS, PER_CALL_IN_WEB, needed_by_web
from config.settings import Settings


class OpenConnection:
    """A connection that remembers that it was closed."""

    def __init__(self) -> None:
        self.aborted = False

    def expire(self, now: float) -> None:
        self.aborted = self.aborted or now > 100

    def abort(self) -> None:
        self.aborted = True


def table_of(most: int) -> Connections:
    """A table to which each connection comes a second after the one before."""
    seconds = count()
    return Connections(most=most, clock=lambda: next(seconds))


async def test_a_connection_that_has_only_just_come_is_given_time_to_speak() -> None:
    table = Connections(most=1, clock=lambda: 0.0)
    fresh = OpenConnection()
    table.add(fresh)
    waiting = asyncio.ensure_future(table.room())
    await asyncio.sleep(0)

    assert not waiting.done()
    table.busy(fresh)

    await asyncio.wait_for(waiting, 5)
    assert not fresh.aborted


def test_the_longest_silent_connection_makes_room_for_a_new_one() -> None:
    table, first, second, third = table_of(2), OpenConnection(), OpenConnection(), OpenConnection()
    table.add(first)
    table.add(second)

    table.busy(first)
    table.silent(first)

    assert table.add(third)
    assert [one.aborted for one in (first, second, third)] == [False, True, False]


def test_a_connection_without_answers_is_closed_before_an_answered_caller() -> None:
    table, caller, stranger = table_of(2), OpenConnection(), OpenConnection()
    table.add(caller)
    table.busy(caller)
    table.silent(caller)
    table.add(stranger)

    table.add(OpenConnection())

    assert (caller.aborted, stranger.aborted) == (False, True)


async def test_a_connection_is_taken_when_one_of_those_before_it_ends() -> None:
    table, busy = Connections(most=1), [OpenConnection() for _ in range(1 + SPARE_CONNECTIONS)]
    for connection in busy:
        table.add(connection)
        table.busy(connection)
    waiting = asyncio.ensure_future(table.room())
    await asyncio.sleep(0)

    assert not waiting.done()
    table.remove(busy[0])

    await asyncio.wait_for(waiting, 5)


def test_no_request_under_way_makes_room() -> None:
    table, busy = table_of(1), OpenConnection()
    table.add(busy)
    table.busy(busy)

    assert table.add(OpenConnection())
    assert not busy.aborted


def test_beyond_the_spare_places_nobody_has_one() -> None:
    table = Connections(most=1)
    for _ in range(1 + SPARE_CONNECTIONS):
        connection = OpenConnection()
        assert table.add(connection)
        table.busy(connection)

    assert not table.add(OpenConnection())
    assert len(table) == 1 + SPARE_CONNECTIONS


def test_a_closed_connection_frees_its_place_and_does_not_become_silent() -> None:
    table, gone = table_of(1), OpenConnection()
    table.add(gone)
    table.busy(gone)

    table.remove(gone)
    table.silent(gone)
    table.add(OpenConnection())

    assert not gone.aborted
    assert len(table) == 1


def test_every_connection_is_looked_at_in_a_sweep() -> None:
    table, connections = Connections(most=5), [OpenConnection() for _ in range(3)]
    for connection in connections:
        table.add(connection)

    table.sweep(101)

    assert all(connection.aborted for connection in connections)


def test_1024_descriptors_leave_room_for_calls_and_stores() -> None:
    most = connections_within(1_024)

    assert most >= 380
    assert most * PER_CALL_IN_WEB + BESIDE_CALLS <= 1_024
    assert connections_within(10) == 1


def test_required_descriptors_serve_a_connection_for_each_web_call() -> None:
    settings = Settings.model_construct(slots=500)

    assert connections_within(needed_by_web(settings)) == settings.call_places


def body(**changes: float) -> Progress:
    told: dict[str, float] = {"began_at": 0, "last_at": 0, "seconds": 10, "bytes_per_second": 100} | changes
    return Progress(**told)  # type: ignore[arg-type]  # whole numbers where they are


def test_a_body_may_pause_for_as_long_as_its_grace() -> None:
    progress = body()
    progress.add(100_000, 5)

    assert progress.due_at == 15


def test_a_body_that_drips_is_due_by_its_average() -> None:
    progress = body()
    for second in range(1, 10):
        progress.add(1, second)

    assert progress.due_at == pytest.approx(10.09)
