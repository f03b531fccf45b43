"""Which databases this version works with, and that each migration leaves the version before it at work."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg.rows import dict_row

from storage.database.engine import open_engine
from storage.database.schema import MIGRATIONS, SchemaFit, fit_of, known_migrations, migrate
from tests.integration.conftest import empty_database
from tests.support.next_version import NEXT, expand
from tests.support.worker_process import DEADLINE_SECONDS, until

CONTRACTING: set[str] = set()
"""Migrations that take away what no version since the one before last has used."""

COLUMNS = """
SELECT table_name, column_name, udt_name AS type, is_nullable = 'YES' AS nullable,
    column_default IS NOT NULL OR is_identity = 'YES' OR is_generated = 'ALWAYS' AS filled
FROM information_schema.columns WHERE table_schema = 'public'
"""
RULES = """
SELECT conrelid::regclass::text AS table_name, pg_get_constraintdef(oid) AS rule
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
UNION SELECT indrelid::regclass::text, pg_get_indexdef(indexrelid)
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indisunique AND relnamespace = 'public'::regnamespace
"""

WAITING = """
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE NOT granted AND locktype = 'relation' AND datname = current_database() AND query LIKE '%ALTER TABLE jobs%'
"""


@dataclass(frozen=True)
class Shape:
    """What statements can lean on."""

    columns: dict[tuple[str, str], dict[str, Any]]
    rules: frozenset[tuple[str, str]]

    @property
    def tables(self) -> set[str]:
        return {table for table, _ in self.columns}


@pytest.fixture
def empty_database_url(database_url: str) -> Iterator[str]:
    with empty_database(database_url) as url:
        yield url


def shape_of(url: str) -> Shape:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        columns = connection.execute(COLUMNS).fetchall()
        rules = connection.execute(RULES).fetchall()
    return Shape(
        {(row["table_name"], row["column_name"]): row for row in columns},
        frozenset((row["table_name"], row["rule"]) for row in rules),
    )


def broken_for_the_version_before(before: Shape, after: Shape) -> list[str]:
    """What its statements would find missing, changed or refused."""
    gone = [f"{name} is gone" for name in before.columns.keys() - after.columns.keys()]
    narrowed = [
        f"{name} was narrowed"
        for name, was in before.columns.items()
        if (now := after.columns.get(name)) and (now["type"] != was["type"] or was["nullable"] > now["nullable"])
    ]
    required = [
        f"{name} must be given"
        for name, now in after.columns.items()
        if name not in before.columns and name[0] in before.tables and not (now["nullable"] or now["filled"])
    ]
    refused = [f"{rule} is new" for rule in after.rules - before.rules if rule[0] in before.tables]
    return gone + narrowed + required + refused


async def fit(url: str) -> SchemaFit:
    engine = open_engine(url, application="tests")
    try:
        return await fit_of(engine)
    finally:
        await engine.dispose()


def test_every_migration_leaves_the_version_before_it_at_work(empty_database_url: str) -> None:
    found = {}
    migrate(empty_database_url, to=known_migrations()[0])
    for _, revision in pairwise(known_migrations()):
        before = shape_of(empty_database_url)
        migrate(empty_database_url, to=revision)
        found[revision] = broken_for_the_version_before(before, shape_of(empty_database_url))

    assert {revision for revision, broken in found.items() if broken} == CONTRACTING, found


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE jobs DROP COLUMN prompt",
        "ALTER TABLE jobs RENAME COLUMN prompt TO template",
        "ALTER TABLE jobs ALTER prompt SET NOT NULL",
        "ALTER TABLE jobs ALTER tries TYPE bigint",
        "ALTER TABLE jobs ADD region text NOT NULL",
        "ALTER TABLE jobs ADD CHECK (tries < 9)",
        "CREATE UNIQUE INDEX ON jobs (request_digest)",
        "DROP TABLE prompt_estimates",
    ],
)
def test_a_change_that_contracts_is_found(empty_database_url: str, change: str) -> None:
    migrate(empty_database_url)
    before = shape_of(empty_database_url)

    with psycopg.connect(empty_database_url) as connection:
        connection.execute(change)

    assert broken_for_the_version_before(before, shape_of(empty_database_url))


def test_the_names_of_migrations_are_those_of_their_files_in_order() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    applied = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]

    assert list(known_migrations()) == applied[::-1]


async def test_a_database_fits_after_its_release_and_is_older_before(empty_database_url: str) -> None:
    first, newest = known_migrations()[0], known_migrations()[-1]

    assert (await fit(empty_database_url)).is_older
    migrate(empty_database_url, to=first)
    older = await fit(empty_database_url)
    migrate(empty_database_url)
    fits = await fit(empty_database_url)

    assert (older.is_older, older.is_newer) == (True, False)
    assert older.complaint == (
        f"The database is at migration {first} and this version needs {newest}: "
        "run the release step, `python -m tasks.release`, before its processes start."
    )
    assert (fits.found, fits.complaint) == (newest, None)


def test_a_migration_that_waits_for_a_reader_lets_everybody_else_through(empty_database_url: str) -> None:
    migrate(empty_database_url, to="0006")
    with (
        ThreadPoolExecutor(1) as release,
        psycopg.connect(empty_database_url) as reader,
        psycopg.connect(empty_database_url, autocommit=True) as worker,
    ):
        reader.execute("SELECT 1 FROM jobs")
        migrating = release.submit(migrate, empty_database_url, "0007")
        until(lambda: worker.execute(WAITING).fetchone() == (1,), "the migration waits for the reader")
        worker.execute("SET statement_timeout = '10s'")
        worker.execute("SELECT 1 FROM jobs")
        waits_still = not migrating.done()
        reader.rollback()

        assert migrating.result(DEADLINE_SECONDS).found == "0006"
        assert waits_still
        assert worker.execute("SELECT version_num FROM alembic_version").fetchone() == ("0007",)


async def test_a_newer_database_is_told_apart_and_left_alone(empty_database_url: str) -> None:
    migrate(empty_database_url)
    expand(empty_database_url)

    found = migrate(empty_database_url)

    assert found.is_newer
    assert not found.is_older
    assert NEXT in (found.complaint or "")
    assert (await fit(empty_database_url)).found == NEXT
