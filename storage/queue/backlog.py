"""Finds flows with unpublished jobs, and takes a flow's next jobs for dispatch.

Fair among tenants by start-time fair queueing (Goyal, Vin and Cheng, 1996): a tenant's virtual time grows by the work
taken, the lowest comes first, and none starts below the flow's time. Within a tenant the nearest deadline comes first,
then age. Invariants: no statement reads more than `MOST_LOOKED_AT` rows of the backlog; a job is taken once, and a
suspect never.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from schemas.ids import JobId, TenantId
from schemas.job import Published
from schemas.lanes import Flow, Lane
from schemas.tenants import RunAhead, ShareCapacity
from storage.database.mapping import read_as
from storage.database.statements import PostgresTable
from storage.queue.flows import FLOW, UNPUBLISHED, flows
from storage.queue.poison_isolation import SUSPECT_DEATHS

INTAKE_SECONDS = 2.0
"""Intake publishes urgent jobs itself; dispatch takes what it left."""

MOST_LOOKED_AT = 4_000
"""A full window of three tenants, compared in a hundredth of a second."""

MOST_GROUPS = 1_000
"""Tenants and batches that one TAKE compares; the next continues."""

NO_LIMITS: Mapping[TenantId, ShareCapacity] = MappingProxyType({})

MOST_FORGOTTEN = 1_000
"""Virtual times that one round deletes."""

_OF_FLOW = f"{UNPUBLISHED} AND lane = :lane AND model = :model"

FLOWS = f"""
WITH RECURSIVE {flows("flows", f"{UNPUBLISHED} AND deaths < {SUSPECT_DEATHS}", FLOW)}
SELECT f.lane, f.model, (
    SELECT count(*) FROM jobs j
    WHERE j.state = 'queued' AND j.dispatched_at IS NOT NULL AND j.lane = f.lane AND j.model = f.model
) AS run_ahead
FROM flows f
"""  # noqa: S608 - a constant

TENANTS = f"""
WITH RECURSIVE seen AS (
    SELECT COALESCE(max(seen_tenant), '') AS tenant FROM flow_times WHERE lane = :lane AND model = :model
), {flows("tenants", f"{_OF_FLOW} AND tenant_id >= (SELECT tenant FROM seen)", ("tenant_id",))},
ahead AS (
    SELECT tenant_id, count(*) AS jobs, sum(work_tokens)::bigint AS tokens
    FROM jobs WHERE state = 'queued' AND dispatched_at IS NOT NULL GROUP BY tenant_id
)
SELECT t.tenant_id, COALESCE(a.jobs, 0) AS jobs, COALESCE(a.tokens, 0) AS tokens
FROM (SELECT tenant_id FROM tenants LIMIT :most_groups) t LEFT JOIN ahead a USING (tenant_id)
"""  # noqa: S608 - a constant

TAKE = f"""
WITH RECURSIVE stopped AS MATERIALIZED (
    SELECT kind, name FROM controls WHERE verb = 'pause' OR (sweeping AND (verb = 'cancel' OR lane <> :lane))
), flow AS MATERIALIZED (
    SELECT COALESCE(max(virtual_time), 0) AS time, COALESCE(max(seen_tenant), '') AS seen_tenant,
        COALESCE(max(seen_batch), '') AS seen_batch
    FROM flow_times WHERE lane = :lane AND model = :model
), groups AS (
    (SELECT j.tenant_id, COALESCE(j.batch_id, '') AS batch, 1 AS number FROM jobs j
     WHERE j.state = 'queued' AND j.dispatched_at IS NULL AND j.lane = :lane AND j.model = :model
       AND (j.tenant_id, COALESCE(j.batch_id, '')) > ((SELECT seen_tenant FROM flow), (SELECT seen_batch FROM flow))
       AND NOT EXISTS (SELECT 1 FROM stopped s WHERE (s.kind, s.name) IN (('model', :model), ('lane', :lane)))
     ORDER BY j.tenant_id, COALESCE(j.batch_id, '') LIMIT 1)
    UNION ALL
    SELECT n.tenant_id, n.batch, g.number + 1 FROM groups g CROSS JOIN LATERAL (
        SELECT j.tenant_id, COALESCE(j.batch_id, '') AS batch FROM jobs j
        WHERE j.state = 'queued' AND j.dispatched_at IS NULL AND j.lane = :lane AND j.model = :model
          AND (j.tenant_id, COALESCE(j.batch_id, '')) > (g.tenant_id, g.batch)
        ORDER BY j.tenant_id, COALESCE(j.batch_id, '') LIMIT 1
    ) n WHERE g.number < :most_groups
), open AS MATERIALIZED (
    SELECT g.tenant_id, g.batch, GREATEST(COALESCE(t.virtual_time, 0), (SELECT time FROM flow)) AS starts_at,
        r.jobs AS most_jobs, r.tokens AS most_tokens
    FROM groups g LEFT JOIN tenant_times t ON t.lane = :lane AND t.model = :model AND t.tenant_id = g.tenant_id
    LEFT JOIN unnest(CAST(:tenants AS text[]), CAST(:most_jobs AS bigint[]), CAST(:most_tokens AS bigint[]))
        AS r (tenant_id, jobs, tokens) ON r.tenant_id = g.tenant_id
    WHERE g.tenant_id <> ALL(CAST(:full AS text[]))
      AND NOT EXISTS (SELECT 1 FROM stopped s WHERE s.kind = 'tenant' AND s.name = g.tenant_id)
      AND NOT EXISTS (SELECT 1 FROM stopped s WHERE s.kind = 'batch' AND s.name = g.batch)
), terms AS MATERIALIZED (
    SELECT GREATEST(1, LEAST(:most, :most_looked_at / GREATEST(count(*), 1)))::int AS each FROM open
), candidates AS (
    SELECT o.tenant_id, o.starts_at, o.most_jobs, o.most_tokens, j.*, j.place = (SELECT each FROM terms) AS cut
    FROM open o CROSS JOIN LATERAL (
        SELECT j.id, j.work_tokens, j.expires_at, j.created_at,
            row_number() OVER (ORDER BY j.expires_at, j.created_at) AS place
        FROM jobs j
        WHERE j.state = 'queued' AND j.dispatched_at IS NULL AND j.lane = :lane AND j.model = :model
          AND j.tenant_id = o.tenant_id AND COALESCE(j.batch_id, '') = o.batch AND j.deaths < {SUSPECT_DEATHS}
          AND (j.lane IN ('normal', 'low') OR j.left_to_dispatch
               OR j.created_at < statement_timestamp() - make_interval(secs => :intake_seconds))
          AND NOT EXISTS (SELECT 1 FROM stopped s WHERE s.kind = 'job' AND s.name = j.id)
        ORDER BY j.expires_at, j.created_at LIMIT (SELECT each FROM terms)
    ) j
), tagged AS (
    SELECT id, tenant_id, work_tokens, cut, CASE
        WHEN (most_jobs IS NULL OR row_number() OVER of_tenant <= most_jobs)
            AND (most_tokens IS NULL OR sum(work_tokens) OVER of_tenant - work_tokens < most_tokens)
        THEN starts_at + (sum(work_tokens) OVER of_tenant)::bigint
    END AS ends_at  -- none beyond the tenant's capacity
    FROM candidates WINDOW of_tenant AS (PARTITION BY tenant_id ORDER BY expires_at, created_at, id)
), known AS (
    SELECT min(ends_at) AS until FROM (
        SELECT max(ends_at) AS ends_at FROM tagged WHERE ends_at IS NOT NULL GROUP BY tenant_id HAVING bool_or(cut)
    ) cut_off
), chosen AS MATERIALIZED (
    SELECT id, tenant_id, ends_at, ends_at - work_tokens AS begins_at FROM tagged
    WHERE ends_at - work_tokens <= COALESCE((SELECT until FROM known), ends_at)
    ORDER BY begins_at, id LIMIT :most
), free AS MATERIALIZED (
    SELECT j.id FROM jobs j WHERE j.id IN (SELECT id FROM chosen) AND j.state = 'queued' AND j.dispatched_at IS NULL
    FOR NO KEY UPDATE OF j SKIP LOCKED
), taken AS (
    UPDATE jobs j SET dispatched_at = clock_timestamp() FROM free f WHERE j.id = f.id
    RETURNING j.id, j.generation
), charged AS (
    INSERT INTO tenant_times AS t (lane, model, tenant_id, virtual_time)
    SELECT :lane, :model, c.tenant_id, max(c.ends_at) FROM taken JOIN chosen c USING (id)
    GROUP BY c.tenant_id ORDER BY c.tenant_id
    ON CONFLICT (lane, model, tenant_id) DO UPDATE SET virtual_time = GREATEST(t.virtual_time, EXCLUDED.virtual_time)
), advanced AS (
    INSERT INTO flow_times AS f (lane, model, virtual_time, seen_tenant, seen_batch)
    SELECT :lane, :model, COALESCE((SELECT max(c.begins_at) FROM taken JOIN chosen c USING (id)), 0),
        COALESCE(max(g.tenant_id), ''), COALESCE(max(g.batch), '')
    FROM flow LEFT JOIN groups g ON g.number = :most_groups
    HAVING count(g.number) > 0 OR max(flow.seen_tenant) <> '' OR EXISTS (SELECT 1 FROM taken)
    ON CONFLICT (lane, model) DO UPDATE SET virtual_time = GREATEST(f.virtual_time, EXCLUDED.virtual_time),
        seen_tenant = EXCLUDED.seen_tenant, seen_batch = EXCLUDED.seen_batch
)
SELECT t.id, t.generation FROM taken t JOIN chosen c USING (id) ORDER BY c.begins_at, c.id
"""  # noqa: S608 - a constant

GIVE_BACK = """
WITH unsent AS (
    SELECT id FROM jobs WHERE id = ANY(CAST(:id AS text[])) AND state = 'queued' ORDER BY id FOR NO KEY UPDATE
)
UPDATE jobs j SET dispatched_at = NULL FROM unsent u WHERE j.id = u.id AND j.state = 'queued'
RETURNING j.id
"""

FORGET_TIMES = """
DELETE FROM tenant_times WHERE (lane, model, tenant_id) IN (
    SELECT t.lane, t.model, t.tenant_id FROM tenant_times t
    JOIN flow_times f ON f.lane = t.lane AND f.model = t.model AND t.virtual_time <= f.virtual_time
    LIMIT :most FOR UPDATE OF t SKIP LOCKED
)
RETURNING tenant_id
"""


class BacklogTable(PostgresTable):
    """Takes queued, unpublished jobs."""

    async def flows(self) -> list[Flow]:
        """List flows by an index skip scan, without counting the backlog."""
        return [read_as(Flow, row) for row in await self._fetch_once(FLOWS)]

    async def tenants(self, lane: Lane, model: str, *, most_groups: int = MOST_GROUPS) -> list[RunAhead]:
        """List the tenants whose jobs `take` would look at, with what is published of each in all flows."""
        rows = await self._fetch_once(TENANTS, lane=lane.value, model=model, most_groups=most_groups)
        return [read_as(RunAhead, row) for row in rows]

    async def take(
        self,
        lane: Lane,
        model: str,
        most: int,
        *,
        capacities: Mapping[TenantId, ShareCapacity] = NO_LIMITS,
        most_groups: int = MOST_GROUPS,
        most_looked_at: int = MOST_LOOKED_AT,
    ) -> list[Published]:
        """Mark the next jobs of a flow as dispatched; returns them in fair order.

        A tenant that `capacities` does not name has no limit. It may return fewer than exist; the next call continues.
        Stopped jobs are not taken.
        """
        terms = {"lane": lane.value, "model": model, "most": most, "intake_seconds": INTAKE_SECONDS}
        bounds = {"most_groups": most_groups, "most_looked_at": most_looked_at}
        limits = {
            "full": [tenant_id for tenant_id, capacity in capacities.items() if 0 in {capacity.jobs, capacity.tokens}],
            "tenants": list(capacities),
            "most_jobs": [capacity.jobs for capacity in capacities.values()],
            "most_tokens": [capacity.tokens for capacity in capacities.values()],
        }
        rows = await self._fetch_once(TAKE, **terms, **bounds, **limits)
        return [Published(JobId(row["id"]), row["generation"]) for row in rows]

    async def give_back(self, jobs: Sequence[JobId]) -> int:
        """Unmark jobs after failed publishing; their tenants stay charged."""
        return len(await self._fetch_once(GIVE_BACK, id=list(jobs)))

    async def forget_times(self, most: int = MOST_FORGOTTEN) -> int:
        """Delete virtual times below the flow's, where their tenants would start anyway."""
        return len(await self._fetch_once(FORGET_TIMES, most=most))
