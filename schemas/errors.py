"""Errors that a caller can do something about. A class's docstring is its message.

PenstockError
├── InvalidRequest            the caller must change the request
│   ├── UnknownModel
│   ├── LaneForbidden         or use a key that may
│   └── IdempotencyConflict
├── NotFound
├── ReplayFailed              stopped by a fault of ours, with its reason
├── Unauthenticated
├── TooManyFailures           wait before the next key is tried
├── Forbidden
├── ShareUsedUp               try again when other calls of the tenant have ended
│   ├── QuotaReached          try again when the tenant has less of what the quota counts
│   └── StorageFull           delete something, or ask the operator for more
├── InvalidSetting            the operator must change a setting; refuses to start
│   └── UnfitSchema           the operator must run the release step
└── Unavailable               try again later
    ├── RedisUnavailable
    ├── AccountUnavailable    what it stores is looked up again later
    ├── ListingTooSlow        until its filter is narrower
    ├── ListingsBusy
    └── PostgresUnavailable
        ├── PostgresFull      until somebody makes room
        ├── PostgresCrowded
        ├── PostgresReadOnly
        └── PostgresBusy      with one statement: others may go on
"""


class PenstockError(Exception):
    """Something went wrong."""

    code: str = "error"

    def __init__(self, message: str | None = None, *, param: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.param = param
        super().__init__(self.message)


class InvalidRequest(PenstockError):  # noqa: N818 - reads as what the caller sent
    """The request is not valid."""

    code = "invalid_request"


class UnknownModel(InvalidRequest):
    """The model is not configured here."""

    code = "model_not_found"


class LaneForbidden(InvalidRequest):
    """This key may not use this lane."""

    code = "lane_forbidden"


class IdempotencyConflict(InvalidRequest):
    """The idempotency key was used before with another request."""

    code = "idempotency_conflict"


class NotFound(PenstockError):  # noqa: N818 - the field's word
    """There is nothing with this id."""

    code = "not_found"


class ReplayFailed(PenstockError):  # noqa: N818 - reads as what happened
    """The replay met an error of this service and was stopped; what it had moved goes on."""

    code = "replay_failed"


class Unauthenticated(PenstockError):  # noqa: N818 - the field's word
    """The API key is missing, wrong or revoked."""

    code = "invalid_api_key"


class TooManyFailures(PenstockError):  # noqa: N818 - reads as what happened
    """Too many wrong API keys came from this address; try again in a moment."""

    code = "too_many_wrong_keys"


class Forbidden(PenstockError):  # noqa: N818 - the field's word
    """This key may not do that."""

    code = "forbidden"


class ShareUsedUp(PenstockError):  # noqa: N818 - reads as what happened to the share
    """The share of this tenant is used up; try again in a few seconds."""

    code = "tenant_share"


class QuotaReached(ShareUsedUp):
    """A quota of this tenant is reached."""

    code = "tenant_quota"


class StorageFull(QuotaReached):
    """This tenant may store no more bytes."""


class InvalidSetting(PenstockError):  # noqa: N818 - reads as what the operator wrote
    """A setting is not valid."""

    code = "invalid_setting"


class UnfitSchema(InvalidSetting):
    """The database's schema does not fit this version."""

    code = "unfit_schema"


class Unavailable(PenstockError):  # noqa: N818 - the field's word
    """A store that is needed cannot be reached; try again in a few seconds."""

    code = "unavailable"


class RedisUnavailable(Unavailable):
    """Redis cannot be reached, so nothing may be sent; try again in a few seconds."""


class ListingTooSlow(Unavailable):
    """This listing takes longer than one may; narrow the filter (by batch, state or time) or ask for fewer rows."""

    code = "listing_too_slow"


class ListingsBusy(Unavailable):
    """As many listings are being read as there may be at once; try again in a few seconds."""

    code = "listings_busy"


class AccountUnavailable(Unavailable):
    """An account cannot be asked for what it keeps; it is asked again later."""


class PostgresUnavailable(Unavailable):
    """Postgres cannot be reached, so nothing can be accepted; try again in a few seconds."""


class PostgresFull(PostgresUnavailable):
    """The disk of Postgres is full, so nothing can be accepted until an operator makes room."""


class PostgresCrowded(PostgresUnavailable):
    """Postgres has no connection free for this, so nothing can be accepted; try again in a few seconds."""


class PostgresReadOnly(PostgresUnavailable):
    """Postgres takes no writes for now, so nothing can be accepted; try again in a few seconds."""


class PostgresBusy(PostgresUnavailable):
    """Postgres gave up on a statement that took too long or waited for rows of others; try again in a few seconds."""
