"""What a stamp says: whose reservation it is, and how much was reserved. Lua writes it, settle reads it back."""

from dataclasses import dataclass

from schemas.ids import AttemptId
from schemas.money import NanoUsd


@dataclass(frozen=True, slots=True)
class Stamp:
    """The readable part of a stamp."""

    attempt_id: AttemptId
    tokens: int
    cost_nano_usd: NanoUsd


def read_stamp(stamp: str) -> Stamp:
    """Take a stamp apart. Raises ValueError for a string that is none."""
    attempt_id, tokens, cost, _moment, _requests, _tokens, _refunded = stamp.rsplit("|", 6)
    return Stamp(AttemptId(attempt_id), int(tokens), NanoUsd(int(cost)))
