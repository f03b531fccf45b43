"""Finds an earlier answer to the same request of the same tenant.

The cache is the completed jobs, by the digest of their canonical request with its contract, so no copy can grow stale.
"""

from schemas.job import Job
from schemas.outcome import CACHED, Valid
from schemas.reply import Reply
from schemas.storable import storable_name
from storage.database.statements import PostgresTable, Row

SAME = """
SELECT r.reply, r.output
FROM jobs j JOIN job_results r ON r.job_id = j.id
WHERE j.tenant_id = :tenant_id AND j.request_digest = :digest AND j.state = 'completed'
ORDER BY j.rested_at DESC LIMIT 1
"""


class AnswerReads(PostgresTable):
    """Reads the exact-match cache."""

    async def same(self, job: Job) -> Valid | None:
        """Read the latest answer, without usage. Raises PostgresUnavailable."""
        rows = await self._fetch_once(SAME, tenant_id=job.tenant_id, digest=job.request_digest)
        return _answer(rows[0], job.model) if rows else None


def _answer(row: Row, model: str) -> Valid:
    body = row["reply"]
    served = storable_name(str(body.get("model", model))) or model
    reply = Reply(body=body, text=None, finish_reason="stop", refusal=None, usage=None, model=served)
    return Valid(reply=reply, output=row["output"], recovery=CACHED)
