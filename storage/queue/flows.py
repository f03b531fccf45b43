"""Builds a skip scan over the queue's pairs of lane and model."""

from collections.abc import Sequence

FLOW = ("lane", "model")
UNPUBLISHED = "state = 'queued' AND dispatched_at IS NULL"

_FLOWS = """
    (SELECT {columns} FROM jobs WHERE {which} ORDER BY {columns} LIMIT 1)
    UNION ALL
    SELECT n.* FROM {name} f CROSS JOIN LATERAL (
        SELECT {columns} FROM jobs WHERE {which} AND ({columns}) > ({previous}) ORDER BY {columns} LIMIT 1
    ) n
"""
"""Finds each value of the columns by one descent of the index."""


def flows(name: str, which: str, columns: Sequence[str]) -> str:
    """Build the common table `name`: the columns' values among the jobs `which`."""
    previous = ", ".join(f"f.{column}" for column in columns)
    return f"{name} AS ({_FLOWS.format(name=name, which=which, columns=', '.join(columns), previous=previous)})"
