"""Describes the packed state of a bucket: one string of doubles per target.

Invariant: a change to FIELDS raises LAYOUT, which is part of the bucket's key.
"""

import struct
from collections.abc import Mapping
from itertools import accumulate

LAYOUT = 3
ORIGIN_SECONDS = 1_767_225_600
"""2026-01-01: microseconds since then stay below 2^53 until 2311."""

FIELDS: Mapping[str, int] = {
    "version": 1,
    "born_at": 1,
    "last_at": 1,
    "frozen_until": 1,
    "last_settled_at": 1,
    "pace": 1,
    "held_until": 1,
    "held_tokens": 1,
    "held_lane": 1,
    "admitted_requests": 1,
    "admitted_tokens": 1,
    "refunded_tokens": 1,
    "refund_fixed": 1,
    "refund_share": 1,
    "rate_factor": 1,
    "factor_at": 1,
    "ramp_factor": 1,
    "ramp_at": 1,
    "day_ends": 2,
    "burst": 1,
    "max_in_flight": 1,
    "sample_remaining": 1,
    "sample_at": 1,
    "sample_admitted": 1,
    "sample_refunded": 1,
    "minute_at": 1,
    "minute_requests": 1,
    "before_requests": 1,
    "minute_tokens": 1,
    "before_tokens": 1,
    "tat": 4,
    "share_tat": 4,
    "ticket": 4,
    "configured": 4,
    "learned": 4,
    "vote": 4,
    "votes": 4,
    "floor": 4,
    "share": 4,
}
"""Field -> width. `day_ends` are the next two ends, 0 where days roll. Other vectors run over dimensions (tat,
configured, learned, vote, votes) or lanes."""

MOMENTS = (
    "born_at",
    "last_at",
    "frozen_until",
    "last_settled_at",
    "held_until",
    "factor_at",
    "ramp_at",
    "sample_at",
    "minute_at",
    "tat",
    "share_tat",
    "ticket",
)
"""Points in time that move when the clock was set back; `day_ends` follow the calendar."""

SIZE = sum(FIELDS.values())
FORMAT = f"<{SIZE}d"
DEFAULT_FLOORS = (0.0, 0.10, 0.20, 0.35)
"""Part of the burst that each lane leaves to the lanes above."""
DEFAULT_SHARES = (0.0, 0.45, 0.25, 0.10)
"""Part of the rate that each lane gets in any case; the rest belongs to no lane."""
CRITICAL_SLOTS = 0.05
"""Part of the calls in flight reserved for critical, in whole slots."""
SHARE_MEMORY_US = 500_000
"""Most unused share that a lane may catch up on, so that it cannot starve critical."""

_STARTS = dict(zip(FIELDS, accumulate((0, *FIELDS.values())), strict=False))


def pack(values: Mapping[str, tuple[float, ...]]) -> bytes:
    """Pack fields into the string that Lua reads; missing fields are zero."""
    doubles = [0.0] * SIZE
    for name, numbers in values.items():
        doubles[_STARTS[name] : _STARTS[name] + FIELDS[name]] = numbers
    return struct.pack(FORMAT, *doubles)


def unpack(packed: bytes) -> dict[str, tuple[float, ...]]:
    """Unpack fields. Raises struct.error for another layout."""
    doubles = struct.unpack(FORMAT, packed)
    return {name: doubles[start : start + FIELDS[name]] for name, start in _STARTS.items()}


def lua_layout() -> str:
    """Return Lua constants: a scalar's index, or the index before a vector."""
    lines = [f"local {name.upper()} = {start + (FIELDS[name] == 1)}" for name, start in _STARTS.items()]
    moments = [_STARTS[name] + 1 + step for name in MOMENTS for step in range(FIELDS[name])]
    lines += [
        f"local SIZE, ORIGIN, SHARE_MEMORY = {SIZE}, {ORIGIN_SECONDS}, {SHARE_MEMORY_US}",
        f"local CRITICAL_SLOTS = {CRITICAL_SLOTS}",
        f"local FORMAT = '<' .. string.rep('d', {SIZE})",
        f"local function moments() return {_lua_list(moments)} end",
        f"local DEFAULT_FLOORS, DEFAULT_SHARES = {_lua_list(DEFAULT_FLOORS)}, {_lua_list(DEFAULT_SHARES)}",
    ]
    return "\n".join(lines)


def _lua_list(values: tuple[float, ...] | list[int]) -> str:
    return "{" + ", ".join(map(repr, values)) + "}"
