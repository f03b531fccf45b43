"""Raises this process's descriptor limit, and checks it against its slots.

A usual soft limit of 1,024 is used up by a few hundred calls.
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
"""Closing connections to providers (64), Redis (62), Postgres (13), pipes (6), clients beyond the cap (32), and
files."""

MOST_DESCRIPTORS = 1_048_576
"""Linux's default limit per process (`fs.nr_open`), where the hard limit is higher."""

MACOS_DESCRIPTORS = 10_240
"""The same on macOS."""


def needed_by_web(settings: Settings) -> int:
    """Return a web process's need with all calls in flight."""
    return settings.call_places * PER_CALL_IN_WEB + BESIDE_CALLS


def needed_by_worker(settings: Settings) -> int:
    """Return a worker's need with all slots full."""
    return settings.slots * PER_CALL + BESIDE_CALLS


def raise_descriptor_limit() -> int:
    """Raise the soft limit to the hard one; returns the limit. Safe to call twice."""
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
    """Raise the limit and return it. Raises SettingError if it is too low."""
    limit = raise_descriptor_limit()
    if needed > limit:
        raise SettingError(
            f"PENSTOCK_SLOTS: {settings.slots} slots need {needed} descriptors and this process may have {limit}: "
            f"raise the hard limit (ulimit -Hn, LimitNOFILE) or lower PENSTOCK_SLOTS"
        )
    return limit


def log_descriptors(settings: Settings, needed: int) -> None:
    """Log the figures of a started process."""
    limit = require_descriptors(settings, needed)
    log.info("descriptor_limit", limit=limit, needed=needed)
