"""Stores pauses, moves and cancellations; claims and dispatch check these rows.

A control takes effect with its commit; its jobs follow in rounds. Invariants: a round waits for no lock, and leaves
terminal and running jobs alone.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.control import Control, Subject, Verb
from schemas.lanes import Lane
from storage.database.mapping import read_as, values_of
from storage.database.notify import ring
from storage.database.statements import PostgresTable, Row, RunEach, fetch, in_order, run
from storage.queue.control_sweeps import ALIVE, CANCEL_SOME, EXISTS, MOVE_SOME

MOST_PER_ROUND = 2_000
"""A claim of one of them may wait for about a tenth of a second."""

LINGER_SECONDS = 60.0
"""How long a finished control meets jobs that were being stored or called."""

PAUSE = """
INSERT INTO controls AS c (verb, kind, name) VALUES ('pause', :kind, :name)
ON CONFLICT (verb, kind, name) DO UPDATE SET name = c.name
RETURNING *
"""

RESUME = "DELETE FROM controls WHERE verb = 'pause' AND kind = :kind AND name = :name RETURNING *"

BEGIN = """
INSERT INTO controls AS c (verb, kind, name, lane, sweeping) VALUES (:verb, :kind, :name, :lane, true)
ON CONFLICT (verb, kind, name) DO UPDATE SET lane = EXCLUDED.lane, sweeping = true, created_at = clock_timestamp()
RETURNING *
"""

STOP_MOVING = "DELETE FROM controls WHERE verb = 'move' AND kind = :kind AND name = :name"

SWEPT = """
UPDATE controls SET sweeping = false
WHERE verb = :verb AND kind = :kind AND name = :name AND created_at = :created_at AND kind <> 'batch'
"""

END = """
DELETE FROM controls WHERE verb = :verb AND kind = :kind AND name = :name AND created_at = :created_at
  AND created_at < statement_timestamp() - make_interval(secs => :linger_seconds)
"""

ALL = "SELECT * FROM controls ORDER BY created_at, verb, kind, name"
UNFINISHED = "SELECT * FROM controls WHERE verb <> 'pause' ORDER BY sweeping DESC, created_at LIMIT 100"

STOPPED = """EXISTS (
        SELECT 1 FROM controls c
        WHERE (c.verb = 'pause' OR (c.verb = 'cancel' AND c.sweeping)) AND (c.kind, c.name) IN (
          ('job', j.id), ('batch', j.batch_id), ('tenant', j.tenant_id), ('model', j.model), ('lane', j.lane)))"""
"""Whether a control keeps job `j` from starting; for statements over few jobs."""

PUT_BACK = """
WITH stopped AS MATERIALIZED (
    SELECT kind, name FROM controls WHERE verb = 'pause' OR (verb = 'cancel' AND sweeping)
), published AS (
    SELECT j.id FROM jobs j
    WHERE j.state = 'queued' AND j.dispatched_at IS NOT NULL AND EXISTS (SELECT 1 FROM stopped)
      AND EXISTS (SELECT 1 FROM stopped s WHERE (s.kind, s.name) IN (
        ('job', j.id), ('batch', j.batch_id), ('tenant', j.tenant_id), ('model', j.model), ('lane', j.lane)))
    LIMIT :most FOR NO KEY UPDATE OF j SKIP LOCKED
)
UPDATE jobs j SET dispatched_at = NULL, generation = j.generation + 1 FROM published p WHERE j.id = p.id
RETURNING j.id
"""

CANCEL_BATCHES = """
UPDATE batches SET status = 'cancelling', cancelling_at = clock_timestamp()
WHERE status IN ('validating', 'in_progress')
  AND ((:kind = 'batch' AND id = :name) OR (:kind = 'tenant' AND tenant_id = :name))
"""

MOVE_BATCHES = "UPDATE batches SET lane = :lane WHERE :kind = 'batch' AND id = :name AND status = 'validating'"


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlStarted:
    """Holds a control and its first round's number of jobs."""

    control: Control
    jobs: int


class ControlTable(PostgresTable):
    """Stores controls. Every method may run twice."""

    async def pause(self, subject: Subject) -> ControlStarted:
        """Stop the subject's jobs from starting; published ones become unpublished."""
        async with self._transaction() as connection:
            [row] = await fetch(connection, PAUSE, values_of(subject))
            reached = await fetch(connection, PUT_BACK, {"most": MOST_PER_ROUND})
        return ControlStarted(control=_control_from(row), jobs=len(reached))

    async def resume(self, subject: Subject) -> Control | None:
        """End a pause; None where there was none."""
        async with self._transaction() as connection:
            rows = await fetch(connection, RESUME, values_of(subject))
            await ring(connection)
        return _control_from(rows[0]) if rows else None

    async def move(self, subject: Subject, lane: Lane) -> ControlStarted:
        """Move waiting jobs to another lane."""
        async with self._transaction() as connection:
            await run(connection, MOVE_BATCHES, values_of(subject) | {"lane": lane})
            begun = await begin(connection, Verb.MOVE, subject, lane)
            await ring(connection)
        return begun

    async def cancel(self, subject: Subject) -> ControlStarted:
        """Cancel waiting jobs and batches."""
        async with self._transaction() as connection:
            await run(connection, CANCEL_BATCHES, values_of(subject))
            return await begin(connection, Verb.CANCEL, subject)

    async def all(self) -> list[Control]:
        """List controls in force, oldest first."""
        return [_control_from(row) for row in await self._fetch_once(ALL)]

    async def exists(self, subject: Subject) -> bool:
        """Tell whether this subject exists or has existed."""
        return bool(await self._fetch_once(EXISTS[subject.kind], name=subject.name))

    async def put_back(self, most: int = MOST_PER_ROUND) -> int:
        """Unpublish jobs that were published while their pause was being stored."""
        return len(await self._fetch_once(PUT_BACK, most=most))

    async def sweep(
        self, most: int = MOST_PER_ROUND, *, linger_seconds: float = LINGER_SECONDS, run_each: RunEach[Row] = in_order
    ) -> int:
        """Run one round of each unfinished control; returns how many jobs changed."""
        return await run_each(
            await self._fetch_once(UNFINISHED),
            lambda row: f"{row['verb']} {row['kind']} {row['name']}",
            lambda row: self._sweep_control(row, most, linger_seconds),
        )

    async def _sweep_control(self, row: Row, most: int, linger_seconds: float) -> int:
        control = _control_from(row)
        async with self._transaction() as connection:
            moved = await _round(connection, control, most)
            if moved < most:
                await _finish(connection, control, linger_seconds)
        return moved


async def begin(connection: AsyncConnection, verb: Verb, subject: Subject, lane: Lane | None = None) -> ControlStarted:
    """Set a cancellation or a move, and run its first round."""
    if verb is Verb.CANCEL:
        await run(connection, STOP_MOVING, values_of(subject))
    [row] = await fetch(connection, BEGIN, values_of(subject) | {"verb": verb, "lane": lane})
    control = _control_from(row)
    jobs = await _round(connection, control, MOST_PER_ROUND)
    if jobs < MOST_PER_ROUND:
        await run(connection, SWEPT, _exactly(control))
    return ControlStarted(control=control, jobs=jobs)


async def _round(connection: AsyncConnection, control: Control, most: int) -> int:
    query = (CANCEL_SOME if control.verb is Verb.CANCEL else MOVE_SOME)[control.subject.kind]
    terms = {"name": control.subject.name, "until_at": control.created_at, "lane": control.lane, "most": most}
    return len(await fetch(connection, query, terms))


async def _finish(connection: AsyncConnection, control: Control, linger_seconds: float) -> None:
    if control.sweeping:
        await run(connection, SWEPT, _exactly(control))
    terms = {"name": control.subject.name, "until_at": control.created_at}
    if not await fetch(connection, ALIVE[control.subject.kind], terms):
        await run(connection, END, _exactly(control) | {"linger_seconds": linger_seconds})


def _exactly(control: Control) -> dict[str, Any]:
    return values_of(control) | values_of(control.subject)


def _control_from(row: Row) -> Control:
    return read_as(Control, row, subject=read_as(Subject, row))
