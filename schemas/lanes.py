"""The four priority classes, and which one a request gets; a lane's name is public interface."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas.errors import InvalidRequest, LaneForbidden
from schemas.jsons import JsonObject


class Lane(StrEnum):
    """A priority class, in order of precedence."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def queue(self) -> str:
        """Celery queue, for example `completions.high`."""
        return f"completions.{self.value}"

    @property
    def rank(self) -> int:
        """Precedence, 0 first; also the index in admission scripts."""
        return tuple(Lane).index(self)


PUBLISHED_BY_INTAKE = frozenset({Lane.CRITICAL, Lane.HIGH})
"""Lanes that intake publishes; the dispatcher publishes the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """Jobs of one lane for one model or alias; `run_ahead` are published and unclaimed."""

    lane: Lane
    model: str
    run_ahead: int


def named_lane(fields: JsonObject, default: Lane, lanes: frozenset[Lane]) -> Lane:
    """Read the lane, else the usual one. Raises InvalidRequest and LaneForbidden."""
    return parse_lane(fields.get("lane", usual_lane(default, lanes)), lanes)


def parse_lane(name: Any, lanes: frozenset[Lane]) -> Lane:  # noqa: ANN401 - unparsed
    """Read a lane's name. Raises InvalidRequest and LaneForbidden."""
    if name not in tuple(Lane):
        raise InvalidRequest(f"lane must be one of {', '.join(Lane)}.", param="lane")
    return checked_lane(Lane(name), lanes)


def usual_lane(default: Lane, lanes: frozenset[Lane]) -> Lane:
    """Return the default lane, else the next allowed below, else above."""
    if default in lanes or not lanes:
        return default
    return min(lanes, key=lambda lane: (lane.rank < default.rank, abs(lane.rank - default.rank)))


def checked_lane(lane: Lane, lanes: frozenset[Lane]) -> Lane:
    """Check the lane. Raises LaneForbidden."""
    if lane not in lanes:
        usable = ", ".join(allowed for allowed in Lane if allowed in lanes) or "none"
        raise LaneForbidden(f"This key may not use the lane {lane}; lanes that it may use: {usable}.", param="lane")
    return lane
