"""A suspect that hangs keeps its own place only, and a bug in one is its own."""

import asyncio
from collections.abc import Mapping

from schemas.ids import JobId, TenantId
from tasks.maintenance.poison_isolation import MOST_ALONE, MOST_ALONE_OF_TENANT, Suspects


class Rows:
    """Suspects by tenant, as the store gives them out."""

    def __init__(self, **jobs: int) -> None:
        self.waiting = {
            TenantId(tenant): [JobId(f"{tenant}{n}") for n in range(number)] for tenant, number in jobs.items()
        }
        self.quarantined: list[JobId] = []

    async def next_alone(
        self, most: int, most_of_tenant: int, under_way: Mapping[JobId, TenantId]
    ) -> list[tuple[JobId, int, TenantId]]:
        taken = []
        for tenant, jobs in self.waiting.items():
            for _ in range(most_of_tenant - list(under_way.values()).count(tenant)):
                if jobs and len(taken) < most:
                    taken.append((jobs.pop(0), 1, tenant))
        return taken

    async def quarantine(self, job_id: JobId, generation: int, message: str) -> bool:
        self.quarantined.append(job_id)
        return True


async def test_hung_suspects_of_one_tenant_hold_up_nobody_else() -> None:
    rows, release, ran = Rows(a=9, b=3), asyncio.Event(), list[JobId]()

    async def run(job_id: JobId, _generation: int) -> int:
        if job_id.startswith("a"):
            await release.wait()
        ran.append(job_id)
        return 0

    suspects = Suspects(rows, run)
    for _ in range(5):
        await suspects.try_alone()
        await asyncio.sleep(0)

    assert ran == ["b0", "b1", "b2"]
    assert len(rows.waiting[TenantId("a")]) == 9 - MOST_ALONE_OF_TENANT
    release.set()
    await suspects.aclose()


async def test_there_are_no_more_processes_than_places() -> None:
    rows, release = Rows(**{f"t{n}": 2 for n in range(MOST_ALONE)}), asyncio.Event()

    async def run(_job_id: JobId, _generation: int) -> int:
        await release.wait()
        return 0

    suspects = Suspects(rows, run)

    assert [await suspects.try_alone() for _ in range(3)] == [MOST_ALONE, 0, 0]
    release.set()
    await suspects.aclose()


async def test_a_process_that_cannot_be_started_holds_up_nobody_else() -> None:
    rows = Rows(a=1, b=1)

    async def run(job_id: JobId, _generation: int) -> int:
        if job_id.startswith("a"):
            raise BlockingIOError
        return -9

    suspects = Suspects(rows, run)
    await suspects.try_alone()
    await suspects.aclose()

    assert rows.quarantined == ["b0"]
