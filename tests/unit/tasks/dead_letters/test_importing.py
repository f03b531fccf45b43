"""An import takes what can be replayed, names the lines that cannot, and holds a slice of it at a time."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import orjson
import pytest

from schemas.errors import InvalidRequest
from schemas.ids import JobId, TenantId
from schemas.job import NewJob
from schemas.jsons import JsonObject
from tasks.dead_letters.export_format import MAX_NAME_CHARACTERS, Reader
from tasks.dead_letters.importing import Imports
from tasks.maintenance.slices import SLICE_BYTES, SLICE_NODES

NOW = datetime(2026, 1, 1, tzinfo=UTC)
READER = Reader(
    tenant_id=TenantId("a"), default_tenant_id=TenantId("a"), tenants=["a"], schema_complaint=lambda _: None
)
LONG = "m" * (MAX_NAME_CHARACTERS + 1)


class Rows:
    """Letters as the store takes them; it refuses one id."""

    def __init__(self, refused: str = "") -> None:
        self.refused, self.brought = refused, list[list[NewJob]]()

    async def bring(self, letters: Sequence[tuple[NewJob, str, str | None]]) -> list[JobId]:
        jobs = [job for job, _, _ in letters]
        if any(job.id == self.refused for job in jobs):
            raise OverflowError("secret words")
        self.brought.append(jobs)
        return [job.id for job in jobs]


def line(name: str, **changes: object) -> bytes:
    request = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}
    return orjson.dumps({"id": name, "reason": "refused", "request": request} | changes)


def request(**changes: object) -> JsonObject:
    return {"model": "small", "messages": [{"role": "user", "content": "hi"}]} | changes


async def streamed(lines: Sequence[bytes]) -> AsyncIterator[bytes]:
    for one in lines:
        yield one


@pytest.mark.parametrize(
    "odd",
    [
        line("jobé"),
        line("j" * 129),
        line("job_1", user=LONG),
        line("job_1", custom_id=LONG),
        line("job_1", endpoint="/v1/nothing"),
        line("job_1", request=request(model=LONG)),
        line("job_1", request=request(prompt=LONG)),
        line("job_1", prompt=LONG),
        line("job_1", request=request(extra=[[]] * 60_000)),
    ],
)
async def test_a_line_that_could_never_be_replayed_is_named(odd: bytes) -> None:
    rows = Rows()

    with pytest.raises(InvalidRequest, match="line 2: "):
        await Imports(rows.bring).take(streamed([line("job_0"), odd]), READER, NOW)

    assert rows.brought == []


async def test_a_line_that_the_store_refuses_is_named_without_its_content() -> None:
    rows = Rows(refused="job_1")

    with pytest.raises(InvalidRequest, match="line 8: it cannot be stored") as refused:
        await Imports(rows.bring).take(
            streamed([line("job_0"), b"", line("job_1"), line("job_2")]), READER, NOW, first_line=6
        )

    assert "secret" not in refused.value.message
    assert [[job.id for job in jobs] for jobs in rows.brought] == [["job_0"]]


@pytest.mark.parametrize("extra", [[[]] * 20_000, "x" * 1_000_000])
async def test_letters_are_held_a_slice_at_a_time(extra: object) -> None:
    rows = Rows()
    lines = [line(f"job_{n}", request=request(extra=extra)) for n in range(20)]

    taken = await Imports(rows.bring, clock=lambda: 0.0).take(streamed(lines), READER, NOW)

    assert taken.imported == 20
    assert all(len(jobs) * len(lines[0]) < 2 * SLICE_BYTES for jobs in rows.brought)
    if isinstance(extra, list):
        assert all(len(jobs) * len(extra) <= SLICE_NODES for jobs in rows.brought)
