"""Raises the limit of descriptors (sockets and files) of this process, and says whether its slots can be served.

Many shells and systemd give a soft limit of 1,024, which a few hundred calls use up: then a process lives, and accepts
and sends nothing.
"""

import resource

import structlog

from config.settings import SettingError, Settings

log = structlog.get_logger()

PER_CALL = 1
"""Its connection to the provider."""

PER_CALL_IN_WEB = 2
"""Also the connection of the caller who waits for it."""

BESIDE_CALLS = 256
"""Connections to providers that are being closed (64), to Redis (at most 2 for the gate, 10 for messages, 50 for
results) and Postgres (8, upkeep one more; 4 for listings), pipes of two check processes (6), connections of clients
beyond the cap (32), and files."""

MOST_DESCRIPTORS = 1_048_576
"""What Linux allows a process unless it is told otherwise, where the hard limit is said to be infinite or beyond."""

MACOS_DESCRIPTORS = 10_240
"""The same on macOS."""


def needed_by_web(settings: Settings) -> int:
    """Descriptors of a web process with as many calls as it may have."""
    return settings.call_places * PER_CALL_IN_WEB + BESIDE_CALLS


def needed_by_worker(settings: Settings) -> int:
    """Descriptors of a worker whose slots are full."""
    return settings.slots * PER_CALL + BESIDE_CALLS


def raise_descriptor_limit() -> int:
    """Raise the soft limit to the hard one; returns what is in force. Safe to call twice."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= highest:
        return MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    for limit in (highest, min(highest, MACOS_DESCRIPTORS)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
        except (ValueError, OSError):  # the kernel has a limit of its own below the hard one
            continue
        return max(soft, limit)
    return soft


def require_descriptors(settings: Settings, needed: int) -> int:
    """Raise the limit and return it. Raises SettingError where the process would need more."""
    limit = raise_descriptor_limit()
    if needed > limit:
        raise SettingError(
            f"PENSTOCK_SLOTS: {settings.slots} slots need {needed} descriptors and this process may have {limit}: "
            f"raise the hard limit (ulimit -Hn, LimitNOFILE) or lower PENSTOCK_SLOTS"
        )
    return limit


def log_descriptors(settings: Settings, needed: int) -> None:
    """Log the figures once a process has started; a refused start says one line only."""
    limit = require_descriptors(settings, needed)
    log.info("descriptor_limit", limit=limit, needed=needed)
