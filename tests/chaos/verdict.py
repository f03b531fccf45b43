"""The judge: what Postgres says at the end, held against what callers were told and what the provider billed.

Audit triggers, which know nothing of leases and fences, count how often each job came to rest and left it, by which
process it was completed and which one held it then, and whether a result that was written was touched again.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import psycopg
from jsonschema import Draft202012Validator
from psycopg.rows import dict_row

from schemas.ids import AttemptId
from schemas.money import NanoUsd
from tests.chaos.invoice import resolve_by_bill
from tests.chaos.load import SCHEMA, Load
from tests.chaos.site import Site

AUDIT = """
CREATE TABLE chaos_rests (job_id text NOT NULL, state text NOT NULL, left_rest boolean NOT NULL,
    held_by text, written_by text);
CREATE TABLE chaos_rewritten (job_id text NOT NULL);
CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    rest text[] := ARRAY['completed', 'dead', 'expired', 'cancelled'];
BEGIN
    IF NEW.state = ANY(rest) THEN
        INSERT INTO chaos_rests VALUES (NEW.id, NEW.state, false,
            split_part(OLD.holder, ':', 2), split_part(current_setting('application_name'), ' ', 3));
    ELSIF OLD.state = ANY(rest) THEN
        INSERT INTO chaos_rests VALUES (NEW.id, NEW.state, true, NULL, NULL);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER chaos_audit AFTER UPDATE OF state ON jobs FOR EACH ROW
WHEN (NEW.state = ANY(ARRAY['completed', 'dead', 'expired', 'cancelled'])
      OR OLD.state = ANY(ARRAY['completed', 'dead', 'expired', 'cancelled']))
EXECUTE FUNCTION chaos_note();
CREATE FUNCTION chaos_note_rewritten() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos_rewritten VALUES (OLD.job_id);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_audit AFTER UPDATE OR DELETE ON job_results FOR EACH ROW EXECUTE FUNCTION chaos_note_rewritten();
"""

JOBS = """
SELECT j.id, j.tenant_id, j.state, j.dead_reason, j.idempotency_key, j.batch_id, j.synchronous, j.deaths, j.custom_id,
    j.wait_reason, r.job_id IS NOT NULL AS has_result, r.output
FROM jobs j LEFT JOIN job_results r ON r.job_id = j.id
"""
ATTEMPTS = "SELECT id, job_id, state, outcome, fence, error FROM attempts ORDER BY job_id, opened_at, id"
DOUBLED = "SELECT job_id FROM chaos_rests GROUP BY job_id HAVING count(*) > 1"
REWRITTEN = "SELECT DISTINCT job_id FROM chaos_rewritten"
BY_ANOTHER = """
SELECT job_id FROM chaos_rests WHERE state = 'completed' AND NOT left_rest AND held_by IS DISTINCT FROM written_by
"""
LEDGER = "SELECT attempt_id, sum(nano_usd)::bigint AS total FROM ledger GROUP BY attempt_id"
NOT_AT_REST = "SELECT count(*) AS jobs FROM jobs WHERE state NOT IN ('completed', 'dead', 'expired', 'cancelled')"

AT_REST = frozenset({"completed", "dead", "expired", "cancelled"})

UNKNOWN_END = frozenset({"worker_lost", "handed_back", "late", "ambiguous", "cut", "unknown"})
"""Outcomes after which nobody could know whether the call was billed, and after which another may be sent."""

EXPLAINED = frozenset({"ambiguous", "cut", "unknown"})
"""Those of them that the provider's own faults bring about. The others take a process that was lost, or was drained,
while it held this very job."""

EXCUSED = frozenset({"caller_lost", "refused", "invalid_output", "tries_exhausted", "ambiguous"})
"""What the provider's own faults and dead callers may kill a job of."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Figures by name, in the order of the table; `wrong` names those that are not what they must be."""

    figures: Mapping[str, object]
    wrong: tuple[str, ...]


def watch_rests(database_url: str) -> None:
    """Install the audit. Before the first job."""
    with psycopg.connect(database_url) as connection:
        connection.execute(AUDIT)


def unfinished(database_url: str) -> int:
    """How many jobs are not at rest."""
    return int(_rows(database_url, NOT_AT_REST)[0]["jobs"])


def known_keys(database_url: str) -> set[str]:
    """The idempotency keys of all stored jobs."""
    found = _rows(database_url, "SELECT idempotency_key FROM jobs WHERE idempotency_key IS NOT NULL")
    return {row["idempotency_key"] for row in found}


def judge(site: Site, load: Load, orphans: set[str]) -> Verdict:
    """Everything at once, after all jobs have come to rest or had the time to."""
    jobs, attempts = _rows(site.database_url, JOBS), _rows(site.database_url, ATTEMPTS)
    bills = site.provider.bills()
    twice = _billed_twice(attempts, bills)
    tenants = {job["id"]: job["tenant_id"] for job in jobs}
    flagged = {job_id for job_id in twice if _story(site, job_id, tenants[job_id]).get("paid_twice_possible")}
    own = Counter(reason for reasons in twice.values() for reason in reasons)
    unexcused = [id_ for id_, reasons in twice.items() if id_ not in orphans and not set(reasons) <= EXPLAINED]
    suspended = resolve_by_bill(
        site.database_url, {AttemptId(id_): NanoUsd(int(bill["nano_usd"])) for id_, bill in bills.items()}
    )
    booked = {row["attempt_id"]: int(row["total"]) for row in _rows(site.database_url, LEDGER)}
    above = {
        attempt_id: booked.get(attempt_id, 0) - int(bill["nano_usd"])
        for attempt_id, bill in bills.items()
        if not bill["usage_told"]
    }
    dead = Counter(str(job["dead_reason"]) for job in jobs if job["state"] == "dead")
    valid = Counter(attempt["job_id"] for attempt in attempts if attempt["outcome"] == "valid")
    completed = [job for job in jobs if job["state"] == "completed"]
    per_job = Counter(Counter(attempt["job_id"] for attempt in attempts).values())
    figures: dict[str, object] = {
        "accepted": len(load.accepted | load.celery) + sum(job["batch_id"] in load.batches for job in jobs),
        "synchronous calls": len(load.synchronous),
        "completed": len(completed),
        "dead by reason": dict(dead),
        "not at rest": dict(
            Counter(f"{job['state']} {job['wait_reason'] or ''}".strip() for job in jobs if job["state"] not in AT_REST)
        ),
        "lost": _lost(jobs, load),
        "results written twice": len(_rows(site.database_url, DOUBLED)) + len(_rows(site.database_url, REWRITTEN)),
        "completed by another than the holder": len(_rows(site.database_url, BY_ANOTHER)),
        "completed without a valid result": sum(not _is_valid(job) for job in completed),
        "completed past the fence": sum(valid[job["id"]] != 1 for job in completed),
        "healthy jobs quarantined": dead["poison"],
        "dead without an excuse": sum(number for reason, number in dead.items() if reason not in EXCUSED),
        "late answers, booked and not used": sum(attempt["outcome"] == "late" for attempt in attempts),
        "attempts per job": dict(sorted(per_job.items())),
        "billed twice": len(twice),
        "billed twice, why": dict(own),
        "billed twice, not flagged": len(twice.keys() - flagged),
        "billed twice, not in flight at a fault": len(unexcused),
        "sent without a durable attempt": len(bills.keys() - {attempt["id"] for attempt in attempts}),
        "suspense resolved by the bill": suspended,
        "booked above the bill for absurd usages, nano-dollars": sum(above.values()),
        "absurd usages booked below the bill": sum(difference < 0 for difference in above.values()),
        "ledger minus bill, nano-dollars": sum(booked.values())
        - sum(above.values())
        - site.provider.meter()["bill_nano_usd"],
    }
    return Verdict(figures=figures, wrong=tuple(name for name in ZEROS if figures[name] != 0))


ZEROS = (
    "lost",
    "results written twice",
    "completed by another than the holder",
    "completed without a valid result",
    "completed past the fence",
    "healthy jobs quarantined",
    "dead without an excuse",
    "billed twice, not flagged",
    "billed twice, not in flight at a fault",
    "sent without a durable attempt",
    "absurd usages booked below the bill",
    "ledger minus bill, nano-dollars",
)
"""Figures that must be zero. A reply whose usage is absurd is booked at its reservation, never below the bill."""


def _lost(jobs: list[dict[str, Any]], load: Load) -> int:
    """Jobs that were accepted and are missing or not at rest; a batch has as many as it had lines."""
    keys = {job["idempotency_key"] for job in jobs if job["state"] in AT_REST}
    lines = Counter(job["batch_id"] for job in jobs if job["state"] in AT_REST)
    short = sum(max(0, 100 - lines[batch_id]) for batch_id in load.batches)
    restless = sum(job["state"] not in AT_REST for job in jobs)
    return max(len((load.accepted | load.celery) - keys) + short, restless)


def _is_valid(job: Mapping[str, Any]) -> bool:
    return bool(job["has_result"]) and Draft202012Validator(SCHEMA).is_valid(job["output"])


def _billed_twice(attempts: list[dict[str, Any]], bills: Mapping[str, Any]) -> dict[str, list[str]]:
    """Jobs with a billed attempt of unknown end and another billed attempt, and why the end was unknown."""
    billed: dict[str, list[dict[str, Any]]] = {}
    for attempt in attempts:
        if attempt["id"] in bills:
            billed.setdefault(attempt["job_id"], []).append(attempt)
    found = {}
    for job_id, several in billed.items():
        unknown = [str(attempt["outcome"]) for attempt in several if attempt["outcome"] in UNKNOWN_END]
        if unknown and len(several) > 1:
            found[job_id] = unknown
    return found


def _story(site: Site, job_id: str, tenant_id: str) -> dict[str, Any]:
    """The job as its tenant is told of it."""
    address = site.api.address
    headers = {"authorization": f"Bearer {address.key}", "x-penstock-tenant": tenant_id}
    answer = httpx2.get(f"{address.url}/jobs/{job_id}", headers=headers).raise_for_status()
    story: dict[str, Any] = answer.json()
    return story


def _rows(database_url: str, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        return connection.execute(query).fetchall()
