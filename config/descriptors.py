"""Raises this process's limit of descriptors (sockets, files), and checks it for its slots.

Many shells and systemd set a soft limit of 1,024, which a few hundred calls use up: then a process lives, but accepts
and sends nothing.
"""

import resource

import structlog

from config.settings import SettingError, Settings

log = structlog.get_logger()

PER_CALL = 1
"""The connection to the provider."""

PER_CALL_IN_WEB = 2
"""Also the connection of the waiting caller."""

BESIDE_CALLS = 256
"""Connections to providers that are being closed (64), to Redis (at most 2 for the gate, 10 for messages, 50 for
results) and Postgres (8, upkeep one more; 4 for listings), pipes of two check processes (6), connections of clients
beyond the cap (32), and files."""

MOST_DESCRIPTORS = 1_048_576
"""The default limit of Linux per process (`fs.nr_open`), used if the hard limit is infinite or larger."""

MACOS_DESCRIPTORS = 10_240
"""The same on macOS."""


def needed_by_web(settings: Settings) -> int:
    """Return the descriptors of a web process with as many calls as it may have."""
    return settings.call_places * PER_CALL_IN_WEB + BESIDE_CALLS


def needed_by_worker(settings: Settings) -> int:
    """Return the descriptors of a worker whose slots are full."""
    return settings.slots * PER_CALL + BESIDE_CALLS


def raise_descriptor_limit() -> int:
    """Raise the soft limit to the hard one and return the limit in force. Safe to call twice."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= highest:
        return MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    for limit in (highest, min(highest, MACOS_DESCRIPTORS)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
        except (ValueError, OSError):  # the kernel has a limit below the hard one
            continue
        return max(soft, limit)
    return soft


def require_descriptors(settings: Settings, needed: int) -> int:
    """Raise the limit and return it. Raises SettingError if the process needs more."""
    limit = raise_descriptor_limit()
    if needed > limit:
        raise SettingError(
            f"PENSTOCK_SLOTS: {settings.slots} slots need {needed} descriptors and this process may have {limit}: "
            f"raise the hard limit (ulimit -Hn, LimitNOFILE) or lower PENSTOCK_SLOTS"
        )
    return limit


def log_descriptors(settings: Settings, needed: int) -> None:
    """Log the figures after a process has started; a refused start logs only one line."""
    limit = require_descriptors(settings, needed)
    log.info("descriptor_limit", limit=limit, needed=needed)
