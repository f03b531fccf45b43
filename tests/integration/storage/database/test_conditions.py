"""What a server that refuses says, and what we make of it: a condition that passes, or a statement that is wrong."""

import os
import socket
import sys
import traceback

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import new_job
from config.settings import Settings
from schemas.errors import PostgresBusy, PostgresCrowded, PostgresReadOnly, PostgresUnavailable
from storage.database.engine import StatementFailed, open_engine, transaction
from storage.jobs.writes import JobTable


async def inserting(url: str, *, pool_size: int = 1) -> None:
    engine = open_engine(url, application="tests", pool_size=pool_size)
    try:
        await JobTable(engine, holder="w", lease_seconds=30).insert([new_job()])
    finally:
        await engine.dispose()


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


async def executed(engine: AsyncEngine, *statements: str) -> None:
    async with transaction(engine) as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def test_a_server_that_takes_no_writes_is_told_apart_from_one_that_is_away(fresh_database_url: str) -> None:
    name = fresh_database_url.rpartition("/")[2]
    run(fresh_database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        with pytest.raises(PostgresReadOnly, match="takes no writes"):
            await inserting(fresh_database_url)
    finally:
        run(fresh_database_url, "SET default_transaction_read_only = off", f"ALTER DATABASE {name} RESET ALL")

    await inserting(fresh_database_url)


async def test_a_process_hung_in_a_transaction_keeps_its_locks_for_a_moment(
    fresh_database_url: str,
) -> None:
    still = open_engine(fresh_database_url, application="still", idle_transaction_timeout_ms=200)
    others = open_engine(fresh_database_url, application="others")
    lock = "SELECT pg_advisory_xact_lock(1)"

    async def stand_still() -> None:
        async with transaction(still) as connection:
            await connection.execute(text(lock))
            await executed(others, lock)  # waits until the server has ended the transaction
            await connection.execute(text("SELECT 1"))

    with pytest.raises(PostgresBusy):
        await stand_still()

    await still.dispose()
    await others.dispose()


async def test_server_and_client_each_notice_that_the_other_vanished(fresh_database_url: str) -> None:
    engine = open_engine(fresh_database_url, application="tests")
    async with transaction(engine) as connection:
        names = ("idle_in_transaction_session_timeout", "tcp_keepalives_idle", "tcp_user_timeout")
        shown = [(await connection.execute(text(f"SHOW {name}"))).scalar_one() for name in names]
    await engine.dispose()

    assert shown == ["10s", "4", "10000"]


async def test_a_role_that_may_hold_no_more_connections_is_crowded_out(fresh_database_url: str) -> None:
    run(fresh_database_url, "CREATE ROLE narrow LOGIN PASSWORD 'narrow' CONNECTION LIMIT 0")
    _, _, place = fresh_database_url.partition("@")
    try:
        with pytest.raises(PostgresCrowded, match="no connection free"):
            await inserting(f"postgresql://narrow:narrow@{place}")
    finally:
        run(fresh_database_url, "DROP ROLE narrow")


async def test_a_server_that_nobody_answers_for_is_away_and_nothing_more() -> None:
    with pytest.raises(PostgresUnavailable) as away:
        await inserting("postgresql://me:hidden@127.0.0.1:1/none")

    assert type(away.value) is PostgresUnavailable
    assert "hidden" not in away.value.message


async def test_a_wrong_statement_is_no_condition(fresh_database_url: str) -> None:
    engine = open_engine(fresh_database_url, application="tests", pool_size=1)
    try:
        with pytest.raises(StatementFailed, match="UndefinedColumn 42703"):
            async with transaction(engine) as connection:
                await connection.execute(text("SELECT no_such_column FROM jobs"))
    finally:
        await engine.dispose()


async def test_a_value_that_no_index_can_hold_is_no_condition(engine: AsyncEngine) -> None:
    await executed(engine, "CREATE TABLE named (name text PRIMARY KEY)")

    with pytest.raises(StatementFailed, match="54000"):
        await executed(engine, "INSERT INTO named SELECT string_agg(md5(n::text), '') FROM generate_series(1, 400) n")


async def test_a_statement_that_takes_too_long_says_nothing_about_others(engine: AsyncEngine) -> None:
    with pytest.raises(PostgresBusy):
        await executed(engine, "SET LOCAL statement_timeout = 20", "SELECT count(*) FROM generate_series(1, 100000000)")


async def test_a_server_that_ends_its_connections_is_away(engine: AsyncEngine) -> None:
    with pytest.raises(PostgresUnavailable) as away:
        await executed(engine, "SELECT pg_terminate_backend(pg_backend_pid())")

    assert type(away.value) is PostgresUnavailable


@pytest.mark.skipif(sys.platform != "linux", reason="the name of the option is Linux's")
async def test_a_silently_vanished_server_is_noticed_before_a_lease_ends(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        assert raw.driver_connection is not None
        with socket.socket(fileno=os.dup(raw.driver_connection.fileno())) as ours:
            unconfirmed_ms, idle, between, times = (
                ours.getsockopt(socket.IPPROTO_TCP, name)
                for name in (
                    socket.TCP_USER_TIMEOUT,
                    socket.TCP_KEEPIDLE,
                    socket.TCP_KEEPINTVL,
                    socket.TCP_KEEPCNT,
                )
            )

    lease_seconds = Settings.model_fields["lease_seconds"].default
    assert 0 < unconfirmed_ms / 1_000 < lease_seconds
    assert idle + between * times < lease_seconds


MARKER = "the-words-of-a-prompt"


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT CAST(CAST(:value AS text) AS int)",
        "SELECT CAST(CAST(:value AS text) AS json)",
        "INSERT INTO job_bodies (job_id, body) VALUES (:value, '{}')",
        "INSERT INTO tenants (id) VALUES (:value), (:value)",
        "SELECT no_such_column, :value",
    ],
)
async def test_an_error_names_its_class_and_none_of_the_values(engine: AsyncEngine, statement: str) -> None:
    with pytest.raises(StatementFailed) as failed:
        async with transaction(engine) as connection:
            await connection.execute(text(statement), {"value": MARKER})

    assert MARKER not in "".join(traceback.format_exception(failed.value))
    assert failed.value.sqlstate is not None


async def test_text_that_no_driver_sends_is_the_fault_of_its_statement(engine: AsyncEngine) -> None:
    for value in (f"{MARKER}\0", f"{MARKER}\ud83d"):
        with pytest.raises(StatementFailed) as failed:
            async with transaction(engine) as connection:
                await connection.execute(text("SELECT CAST(:value AS text)"), {"value": value})

        assert MARKER not in "".join(traceback.format_exception(failed.value))


async def test_no_parameters_are_written_beside_a_statement(engine: AsyncEngine) -> None:
    with pytest.raises(DBAPIError) as failed:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT no_such_column, :value"), {"value": MARKER})

    assert MARKER not in str(failed.value)
