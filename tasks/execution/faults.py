"""Ends a job as dead when a step hits a bug: its lease would pay for the call again."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from schemas.decision import DeadLetter, DeadReason
from schemas.errors import Unavailable
from schemas.outcome import InternalFault

log = structlog.get_logger()

Value = TypeVar("Value")
Other = TypeVar("Other")


async def guarded(step: Awaitable[Value], instead: Callable[[], Other], event: str, **ids: str) -> Value | Other:
    """Return the step's result; on a bug, log `event` and return `instead()`.

    Raises Unavailable: the job is then left to its lease.
    """
    try:
        return await step
    except Unavailable:
        raise
    except Exception:  # a bug in one job must not affect the others
        log.exception(event, **ids)
        return instead()


def dead_of_a_fault() -> DeadLetter:
    """Return the decision on a job after a bug."""
    return DeadLetter(reason=DeadReason.INTERNAL_ERROR, message=InternalFault().message)
