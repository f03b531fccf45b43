"""Ends a job whose step meets a bug of ours, instead of leaving it to its lease.

Left to its lease, the job would meet the bug again, and pay for a call again.
"""

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
    """Return what the step does; where it meets a bug, log `event` with the traceback and return `instead()`.

    Raises Unavailable: then the job is left to its lease.
    """
    try:
        return await step
    except Unavailable:
        raise
    except Exception:  # a bug that one job meets is this job's alone
        log.exception(event, **ids)
        return instead()


def dead_of_a_fault() -> DeadLetter:
    """The decision on a job whose step met a bug."""
    return DeadLetter(reason=DeadReason.INTERNAL_ERROR, message=InternalFault().message)
