"""Requires a password for Flower outside development, because Flower controls every worker."""

from collections.abc import Mapping, Sequence
from typing import Literal

from schemas.errors import InvalidSetting

PASSWORD = "FLOWER_BASIC_AUTH"  # noqa: S105 - the name of a variable
OPEN_API = "FLOWER_UNAUTHENTICATED_API"
PASSWORD_FLAGS = ("--basic-auth", "--basic_auth", "--auth")


def require_password(
    env: Literal["development", "staging", "production"], environ: Mapping[str, str], arguments: Sequence[str]
) -> None:
    """Check environment and arguments of Flower. Raises InvalidSetting."""
    if env == "development":
        return
    if not environ.get(PASSWORD) and not any(argument.startswith(PASSWORD_FLAGS) for argument in arguments):
        raise InvalidSetting(f"{PASSWORD}=user:password must be set: Flower controls every worker (PENSTOCK_ENV={env})")
    if environ.get(OPEN_API):
        raise InvalidSetting(f"{OPEN_API} must not be set outside development (PENSTOCK_ENV={env})")
