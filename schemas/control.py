"""An operator's controls over active work: pause, move and cancel."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from schemas.lanes import Lane


class Kind(StrEnum):
    """What a control applies to. A lane can only be paused; the others can also be moved and cancelled."""

    JOB = "job"
    BATCH = "batch"
    TENANT = "tenant"
    MODEL = "model"
    LANE = "lane"


class Verb(StrEnum):
    """The action of a control."""

    PAUSE = "pause"
    MOVE = "move"
    CANCEL = "cancel"


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One job, batch, tenant, model or lane, by its name."""

    kind: Kind
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """A control that is in force. While `sweeping`, its rows are still being moved and none of them starts."""

    verb: Verb
    subject: Subject
    lane: Lane | None
    sweeping: bool
    created_at: datetime
