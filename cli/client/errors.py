"""Errors of the client, besides those that the API returns.

PenstockError
├── Unavailable
│   └── ApiUnreachable
├── ApiFailed            an unreadable response
├── BatchIncomplete
└── ReplayStopped
"""

from schemas.errors import PenstockError, Unavailable


class ApiUnreachable(Unavailable):
    """Nobody answers at this address; start it with `penstock up`, or name another with --url."""

    code = "unreachable"


class ApiFailed(PenstockError):  # noqa: N818 - reads as what happened
    """The answer is not one that a penstock gives."""

    code = "door_failed"


class ReplayStopped(PenstockError):  # noqa: N818 - reads as what happened
    """The replay was stopped, because too few of its canaries completed."""

    code = "replay_stopped"


class BatchIncomplete(PenstockError):  # noqa: N818 - reads as what happened
    """The batch has ended and not all of its jobs have completed; see `penstock dead-letters list`."""

    code = "batch_incomplete"
