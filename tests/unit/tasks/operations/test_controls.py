"""The operator's words are checked before they are in force."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from schemas.control import Control, Kind, Subject, Verb
from schemas.errors import InvalidRequest, NotFound, UnknownModel
from schemas.ids import JobId, TenantId
from schemas.lanes import Lane
from storage.queue.controls import ControlStarted
from tasks.operations.controls import Controls

JOB = Subject(kind=Kind.JOB, name="job_1")


@dataclass
class Rows:
    known: set[str] = field(default_factory=lambda: {"job_1", "low", "old"})
    said: list[tuple[Verb, Subject]] = field(default_factory=list)

    async def pause(self, subject: Subject) -> ControlStarted:
        return self._say(Verb.PAUSE, subject)

    async def resume(self, subject: Subject) -> Control | None:
        return None if (Verb.PAUSE, subject) not in self.said else self._say(Verb.PAUSE, subject).control

    async def move(self, subject: Subject, lane: Lane) -> ControlStarted:
        return self._say(Verb.MOVE, subject)

    async def cancel(self, subject: Subject) -> ControlStarted:
        return self._say(Verb.CANCEL, subject)

    async def all(self) -> list[Control]:
        return []

    async def exists(self, subject: Subject) -> bool:
        return subject.name in self.known

    def _say(self, verb: Verb, subject: Subject) -> ControlStarted:
        self.said.append((verb, subject))
        now = datetime(2026, 1, 1, tzinfo=UTC)
        return ControlStarted(
            control=Control(verb=verb, subject=subject, lane=None, sweeping=False, created_at=now), jobs=1
        )


@dataclass
class Running:
    cancelled: list[JobId] = field(default_factory=list)

    async def cancel(self, job_id: JobId, tenant_id: TenantId | None) -> bool:
        self.cancelled.append(job_id)
        return True


def chain(model: str) -> object:
    if model != "small":
        raise UnknownModel
    return ()


def controls_over(rows: Rows, running: Running | None = None) -> Controls:
    return Controls(rows=rows, chain=chain, cancel_job=(running or Running()).cancel)


async def test_a_cancelled_job_ends_even_while_it_is_called() -> None:
    rows, running = Rows(), Running()

    await controls_over(rows, running).cancel(JOB)

    assert (rows.said, running.cancelled) == ([(Verb.CANCEL, JOB)], ["job_1"])


@pytest.mark.parametrize("name", ["small", "old"])
async def test_a_model_is_known_by_its_configuration_or_by_its_jobs(name: str) -> None:
    begun = await controls_over(Rows()).pause(Subject(kind=Kind.MODEL, name=name))

    assert begun.jobs == 1


@pytest.mark.parametrize("kind", list(Kind))
async def test_what_does_not_exist_is_refused(kind: Kind) -> None:
    rows = Rows()

    with pytest.raises(NotFound):
        await controls_over(rows).pause(Subject(kind=kind, name="nobody"))
    assert rows.said == []


async def test_a_lane_is_paused_but_neither_moved_nor_cancelled() -> None:
    controls, lane = controls_over(Rows()), Subject(kind=Kind.LANE, name="low")

    await controls.pause(lane)
    with pytest.raises(InvalidRequest):
        await controls.cancel(lane)
    with pytest.raises(InvalidRequest):
        await controls.move(lane, Lane.HIGH)


async def test_what_is_not_paused_cannot_be_resumed() -> None:
    with pytest.raises(NotFound):
        await controls_over(Rows()).resume(JOB)
