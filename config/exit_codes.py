"""The exit codes of all processes and commands. Part of the public interface."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a process or command ended."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    UNAUTHORISED = 4
    UNREACHABLE = 5
    REFUSED_SETTING = 6
    INCOMPLETE = 7
    INTERRUPTED = 130
    """128 + SIGINT, as shells have it."""
