"""Types for an operator's controls: pause, move and cancel."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from schemas.lanes import Lane


class Kind(StrEnum):
    """What a control applies to; lanes can only be paused."""

    JOB = "job"
    BATCH = "batch"
    TENANT = "tenant"
    MODEL = "model"
    LANE = "lane"


class Verb(StrEnum):
    """What a control does."""

    PAUSE = "pause"
    MOVE = "move"
    CANCEL = "cancel"


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One job, batch, tenant, model or lane."""

    kind: Kind
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """A control in force; while `sweeping` its rows are being moved and none starts."""

    verb: Verb
    subject: Subject
    lane: Lane | None
    sweeping: bool
    created_at: datetime
