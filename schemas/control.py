"""An operator's controls over active work: pause, move and cancel."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from schemas.lanes import Lane


class Kind(StrEnum):
    """What a control applies to. Lanes can be paused only; the others also moved or cancelled."""

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
    """A control in force. While `sweeping`, its rows are being moved and none of them starts."""

    verb: Verb
    subject: Subject
    lane: Lane | None
    sweeping: bool
    created_at: datetime
