"""The common base of all tables: unknown keys and wrong types are refused."""

from typing import Annotated, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Strict

TIME_OF_DAY = r"^([01]\d|2[0-3]):[0-5]\d$"


class Table(BaseModel):
    """One table of the file, frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def known_zone(name: str) -> str:
    """Return the name of a known timezone. Raises ValueError."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no timezone {name!r}") from None
    return name


Zone: TypeAlias = Annotated[str, AfterValidator(known_zone)]
Chain: TypeAlias = Annotated[tuple[str, ...], Strict(strict=False)]
