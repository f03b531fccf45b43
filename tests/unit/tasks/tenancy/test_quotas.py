"""Quotas at the doors: what has none costs nothing, what has one is counted once a second and told by name."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from schemas.errors import QuotaReached, StorageFull
from schemas.ids import TenantId
from schemas.tenants import TenantShare
from storage.tenancy.usage import SLICE_JOBS
from tasks.maintenance.items import Isolation
from tasks.tenancy.quotas import BELIEVED_SECONDS, Quotas, add_up_bytes
from tests.support.fakes import FakeUsage, a_job

TENANT = TenantId("default")


@dataclass
class ApiClient:
    """Quotas over a fake count, under a clock that stands."""

    limits: dict[str, int]
    usage: FakeUsage = field(default_factory=FakeUsage)
    now: float = 0.0

    def quotas(self) -> Quotas:
        share = TenantShare(tenant_id=TENANT, **self.limits)  # type: ignore[arg-type]  # checked by the dataclass
        return Quotas(self.usage, lambda _: share, clock=lambda: self.now)


async def parts(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


async def test_without_quotas_nothing_is_counted() -> None:
    api = ApiClient({})
    quotas = api.quotas()

    await quotas.take_job(a_job())
    await quotas.take_batch(TENANT)
    assert [len(part) async for part in quotas.counted(TENANT, parts(5, 6))] == [5, 6]

    assert api.usage.counted == 0


async def test_open_jobs_are_counted_once_a_second_and_added_to_meanwhile() -> None:
    api = ApiClient({"open_jobs": 10}, FakeUsage(used=7))
    quotas = api.quotas()
    for _ in range(3):
        await quotas.take_job(a_job())

    with pytest.raises(QuotaReached, match="open_jobs of this tenant is 10, and 10 are in use") as error:
        await quotas.take_job(a_job())
    assert (error.value.code, error.value.param, api.usage.counted) == ("tenant_quota", "open_jobs", 1)

    api.now = BELIEVED_SECONDS
    await quotas.take_job(a_job())
    assert api.usage.counted == 2


@pytest.mark.parametrize("quota", ["waiting_batches", "open_jobs"])
async def test_a_batch_is_refused_when_either_quota_is_reached(quota: str) -> None:
    with pytest.raises(QuotaReached, match=quota):
        await ApiClient({quota: 3}, FakeUsage(used=3)).quotas().take_batch(TENANT)


async def test_an_upload_ends_at_the_byte_that_is_too_many() -> None:
    quotas = ApiClient({"bytes_stored": 100}, FakeUsage(used=40)).quotas()
    counted = quotas.counted(TENANT, parts(30, 30, 1))

    assert [len(await anext(counted)) for _ in range(2)] == [30, 30]
    with pytest.raises(StorageFull, match="bytes_stored of this tenant is 100"):
        await anext(counted)


async def test_a_body_counts_whatever_numbers_and_texts_it_holds() -> None:
    quotas = ApiClient({"bytes_stored": 1_000}).quotas()

    for odd in (2**64, Decimal("1E+400"), "\ud83d"):
        await quotas.take_job(a_job(body={"seed": odd}))


async def test_the_body_of_a_job_counts_as_stored() -> None:
    with pytest.raises(StorageFull, match="bytes_stored"):
        await ApiClient({"bytes_stored": 1_000}, FakeUsage(used=990)).quotas().take_job(a_job())


class Sums:
    """Counts the jobs of tenants by slices; has a bug for one of them."""

    def __init__(self, **jobs: int) -> None:
        self.left = {TenantId(name): number for name, number in jobs.items()}

    async def count_slice(self, tenant_id: TenantId) -> int:
        if tenant_id == "odd":
            raise OverflowError
        counted = min(self.left[tenant_id], SLICE_JOBS)
        self.left[tenant_id] -= counted
        return counted


async def test_adding_up_continues_while_a_slice_is_full_and_isolates_tenants() -> None:
    sums, isolation = Sums(odd=1, large=SLICE_JOBS + 1, small=7), Isolation("add_up_bytes")

    def share(tenant_id: TenantId) -> TenantShare:
        return TenantShare(tenant_id=tenant_id, bytes_stored=1)

    added = [await add_up_bytes(sums.count_slice, list(sums.left), share, isolation) for _ in range(2)]

    assert added == [SLICE_JOBS, 0]
    assert sums.left == {"odd": 1, "large": 0, "small": 0}
