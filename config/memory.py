"""What a process holds from its start is for ever, and is not looked at again by the collector of cycles.

Imports, models and settings come to half a million objects. A full collection walks them all while the loop stands
still: 150 to 370 ms on two busy cores, and each job that was under way then took that much longer.
"""

import gc

YOUNG_OBJECTS = 5_000
"""Net new objects before the youngest are looked at. With Python's 700, a slice of jobs is walked while it is alive."""


def keep_what_started() -> None:
    """To be called when a process is ready and before its first job. Called again, it does nothing."""
    if gc.get_freeze_count():
        return
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
