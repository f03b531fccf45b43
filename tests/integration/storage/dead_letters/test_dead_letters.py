"""An export reads a few megabytes at a time, and no letter ends it."""

import json
import uuid

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import new_job
from schemas.ids import JobId, TenantId
from schemas.replay import DeadLetters
from storage.database.engine import transaction
from storage.database.statements import MOST_BYTES_AT_ONCE
from storage.dead_letters.reads import MAX_LETTER_BYTES, DeadLetterReads
from storage.dead_letters.writes import LetterTable

TENANT = TenantId("default")
ATTEMPT = """
INSERT INTO attempts (id, job_id, fence, account, model, epoch, stamp, counters, reserved_tokens, reserved_nano_usd,
    price, state, opened_at, request, reply)
VALUES (:id, :job_id, 1, 'a', 'm', 1, 's', '[]', 1, 1, '{}', 'posted', now(), CAST(:request AS json),
    CAST(:reply AS json))
"""


async def dead(engine: AsyncEngine, **changes: object) -> JobId:
    job = new_job(**changes)
    await LetterTable(engine).bring([(job, "refused", None)])
    return job.id


async def attempted(engine: AsyncEngine, job_id: JobId, reply: str) -> None:
    terms = {"id": f"att_{uuid.uuid4().hex}", "job_id": job_id, "request": "{}", "reply": reply}
    async with transaction(engine) as connection:
        await connection.execute(text(ATTEMPT), terms)


class CountedReads(DeadLetterReads):
    """The stored letters, and how many of them were in memory together."""

    groups_read: list[int]

    async def _texts(self, ids, *, attempts, content):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - passes on
        self.groups_read.append(len(ids))
        return await super()._texts(ids, attempts=attempts, content=content)


async def test_large_letters_are_read_a_few_at_a_time(engine: AsyncEngine) -> None:
    size = MOST_BYTES_AT_ONCE // 3
    ids = [await dead(engine, batch_id="large", body={"model": "m", "pad": "x" * size}) for _ in range(7)]
    reads = CountedReads(engine)
    reads.groups_read = []

    found = [whole.letter.id async for whole in reads.whole(DeadLetters(tenant_id=TENANT, ids=tuple(ids)))]

    assert sorted(found) == sorted(ids)
    assert max(reads.groups_read) == 2


async def test_what_no_parser_takes_is_exported_as_it_is_stored(engine: AsyncEngine) -> None:
    job_id, reply = (
        await dead(engine),
        '{"half": "\\ud83d", "digits": 123456789012345678901234567890,\n "nul": "\\u0000"}',
    )
    await attempted(engine, job_id, reply)

    [whole] = [each async for each in DeadLetterReads(engine).whole(DeadLetters(tenant_id=TENANT, ids=(job_id,)))]

    line = orjson.dumps(whole.attempts[0].reply)
    assert b"\n" not in line
    assert json.loads(line) == json.loads(reply)


async def test_a_letter_too_large_for_a_line_is_marked_cut_and_others_are_whole(engine: AsyncEngine) -> None:
    huge, other = await dead(engine), await dead(engine)
    for _ in range(3):
        await attempted(engine, huge, json.dumps("x" * (MAX_LETTER_BYTES // 2)))
    await attempted(engine, other, "1")

    wanted = DeadLetters(tenant_id=TENANT, ids=(huge, other))
    found = {each.letter.id: each async for each in DeadLetterReads(engine).whole(wanted)}

    assert (found[huge].is_cut, len(found[huge].attempts), found[huge].attempts[0].reply) == (True, 3, None)
    assert not found[other].is_cut
    assert found[other].attempts[0].reply is not None
