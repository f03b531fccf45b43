"""The outcome of an attempt: a closed set, matched by `tasks.execution.retry_policy`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from schemas.admission import Refusal, WaitReason
from schemas.reply import Reply, Trouble

CACHED = "cached"
"""`recovery` of a reply taken from an earlier identical request."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Valid:
    """The reply meets the contract; `output` is the parsed JSON, None without a contract."""

    reply: Reply
    output: Any = None
    recovery: str = "direct"


@dataclass(frozen=True, kw_only=True, slots=True)
class Invalid:
    """The reply breaks the contract; `complaint` is fit for the model."""

    reply: Reply
    complaint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Truncated:
    """The reply stopped at its output limit."""

    reply: Reply


@dataclass(frozen=True, kw_only=True, slots=True)
class Declined:
    """The model refused, or a content filter cut the reply; not rephrased."""

    reply: Reply
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """The call failed without a reply."""

    trouble: Trouble


@dataclass(frozen=True, kw_only=True, slots=True)
class NotAdmitted:
    """A limit is exhausted for longer than a worker waits. Costs no try.

    `until_at` is the ticket's turn; `since_at` is when the job first asked, which keeps its place.
    """

    until_at: datetime
    since_at: datetime
    reason: WaitReason


@dataclass(frozen=True, kw_only=True, slots=True)
class NotAllowed:
    """The gate refused; nothing was sent."""

    refusal: Refusal


@dataclass(frozen=True, kw_only=True, slots=True)
class Voided:
    """The grant lost its epoch before the attempt row; nothing was sent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InternalFault:
    """A bug of Penstock hit this job; a retry would hit it and pay again."""

    message: str = "A fault of Penstock ended this job; its log says more under the id of the job."


Judged: TypeAlias = Valid | Invalid | Truncated | Declined
Outcome: TypeAlias = Judged | Failed | NotAdmitted | NotAllowed | Voided | InternalFault
