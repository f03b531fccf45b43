"""What an operator says about work that is under way: pause, move and cancel, and of what."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from schemas.lanes import Lane


class Kind(StrEnum):
    """What may be named. A lane can be paused; the others can be moved and cancelled too."""

    JOB = "job"
    BATCH = "batch"
    TENANT = "tenant"
    MODEL = "model"
    LANE = "lane"


class Verb(StrEnum):
    """What is in force for it."""

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
    """An operator's word that is in force. `sweeping`: its rows are still being moved, and none of them starts."""

    verb: Verb
    subject: Subject
    lane: Lane | None
    sweeping: bool
    created_at: datetime
