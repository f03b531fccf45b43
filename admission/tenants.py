"""Describes the packed state of a tenant's share of all targets, in microseconds of refill.

Separate from buckets, which two running versions share. Invariant: a change to FIELDS raises LAYOUT, which is part of
the key.
"""

import struct
from collections.abc import Mapping
from itertools import accumulate

LAYOUT = 1
BURST_US = 6_000_000
"""A tenth of a minute's limit: these limits are ours, so no provider objects to a burst."""
NEW_PACE_US = 50_000
"""Time between the ends of two calls, before any has ended."""
KEPT_SECONDS = 60
"""Time after the last use until everything has been refilled."""

FIELDS: Mapping[str, int] = {
    "last_at": 1,
    "settled_at": 1,
    "pace": 1,
    "calls": 1,
    "tat": 2,
    "interval": 2,
    "ticket": 4,
}
"""Field -> width. `tat` and `interval` run over requests and tokens, `ticket` over lanes. `interval` and `calls` are
the limits under which tickets were drawn."""

SIZE = sum(FIELDS.values())
_STARTS = dict(zip(FIELDS, accumulate((0, *FIELDS.values())), strict=False))
_NOT_MOMENTS = ("pace", "calls", "interval")


def unpack(packed: bytes) -> dict[str, tuple[float, ...]]:
    """Unpack fields. Raises struct.error for another layout."""
    doubles = struct.unpack(f"<{SIZE}d", packed)
    return {name: doubles[start : start + FIELDS[name]] for name, start in _STARTS.items()}


def lua_layout() -> str:
    """Return Lua constants: a scalar's index, or the index before a vector."""
    lines = [f"local T_{name.upper()} = {start + (FIELDS[name] == 1)}" for name, start in _STARTS.items()]
    moving = (name for name in FIELDS if name not in _NOT_MOMENTS)
    moments = [str(_STARTS[name] + 1 + step) for name in moving for step in range(FIELDS[name])]
    lines += [
        f"local T_SIZE, T_BURST, T_KEPT, T_NEW_PACE = {SIZE}, {BURST_US}, {KEPT_SECONDS}, {NEW_PACE_US}",
        f"local T_FORMAT = '<' .. string.rep('d', {SIZE})",
        f"local T_MOMENTS = {{{', '.join(moments)}}}",
    ]
    return "\n".join(lines)
