"""Builds bounded statements for cancellations and moves, per kind of subject.

They take jobs older than the control of a tenant or model, and all of a batch. Published jobs come first, because they
would start first.
"""

from schemas.control import Kind
from storage.queue.flows import FLOW, UNPUBLISHED, flows

_FLOWS = f"RECURSIVE {flows('flows', UNPUBLISHED, FLOW)}, "

_SPREAD_OVER_FLOWS = """meant AS MATERIALIZED (
    (SELECT j.id FROM jobs j WHERE j.state = 'queued' AND j.dispatched_at IS NOT NULL AND {which} LIMIT :most)
    UNION ALL
    (SELECT n.id FROM flows f CROSS JOIN LATERAL (
        SELECT j.id FROM jobs j
        WHERE j.state = 'queued' AND j.dispatched_at IS NULL AND j.lane = f.lane AND j.model = f.model AND {which}
        LIMIT :most
    ) n LIMIT :most)
    UNION ALL
    (SELECT j.id FROM jobs j WHERE j.state = 'waiting' AND {which} LIMIT :most)
    LIMIT :most
)"""

_TOGETHER = """meant AS MATERIALIZED (
    SELECT j.id FROM jobs j WHERE j.state IN ('queued', 'waiting') AND {which} LIMIT :most
)"""

_ROUND = """
WITH {meant}, free AS MATERIALIZED (
    SELECT j.id FROM jobs j WHERE j.id IN (SELECT id FROM meant) AND j.state IN ('queued', 'waiting') AND {which}
    FOR NO KEY UPDATE OF j SKIP LOCKED
)
UPDATE jobs j SET {change} FROM free f WHERE j.id = f.id
RETURNING j.id
"""

_CANCEL = """state = 'cancelled', rested_at = clock_timestamp(), holder = NULL, lease_until = NULL, wake_at = NULL,
    wait_reason = NULL, dispatched_at = NULL, generation = j.generation + 1, fence = j.fence + 1"""

_MOVE = "lane = :lane, dispatched_at = NULL, generation = j.generation + 1"

_WHICH = {
    Kind.JOB: "j.id = :name",
    Kind.BATCH: "j.batch_id = :name",
    Kind.TENANT: "j.tenant_id = :name AND j.created_at <= :until_at",
    Kind.MODEL: "j.model = :name AND j.created_at <= :until_at",
}


def _round(kind: Kind, change: str, also: str = "") -> str:
    which = _WHICH[kind] + also
    spread = kind in {Kind.TENANT, Kind.MODEL}
    meant = _FLOWS + _SPREAD_OVER_FLOWS if spread else _TOGETHER
    return _ROUND.format(meant=meant.format(which=which), which=which, change=change)


CANCEL_SOME = {kind: _round(kind, _CANCEL) for kind in _WHICH}
MOVE_SOME = {kind: _round(kind, _MOVE, " AND j.lane <> :lane") for kind in _WHICH}

ALIVE = {
    kind: (
        f"SELECT 1 AS alive FROM jobs j WHERE j.state = 'running' AND j.lease_until IS NOT NULL AND {which} LIMIT 1"  # noqa: S608 - constants
    )
    for kind, which in _WHICH.items()
}
"""Running jobs may still return to their lane."""

_IN_ANY_LANE = """
SELECT 1 AS known FROM jobs j
WHERE j.state = 'queued' AND j.dispatched_at IS NULL AND j.lane IN ('critical', 'high', 'normal', 'low')
  AND j.model = :name
UNION ALL
SELECT 1 FROM jobs j WHERE j.state = 'waiting' AND j.model = :name
LIMIT 1
"""

EXISTS = {
    Kind.JOB: "SELECT 1 AS known FROM jobs WHERE id = :name",
    Kind.BATCH: "SELECT 1 AS known FROM batches WHERE id = :name",
    Kind.TENANT: "SELECT 1 AS known FROM tenants WHERE id = :name",
    Kind.MODEL: _IN_ANY_LANE,
    Kind.LANE: "SELECT 1 AS known WHERE :name IN ('critical', 'high', 'normal', 'low')",
}
