"""What comes out of the broker: our own slices, and other services' bodies."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import orjson
import pytest

from schemas.errors import InvalidRequest, LaneForbidden
from schemas.ids import JobId, TenantId
from schemas.job import Published
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.tenants import TenantShare, no_limits
from tasks.dispatch.publisher import message
from tasks.intake.celery_messages import CallerMessage, job_from_message, run_slice

MOST_BYTES = 1_000
BODY = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}


class Words:
    def chain(self, model: str) -> object:
        return ()

    def schema_complaint(self, schema: JsonObject) -> str | None:
        return None


def parsed(
    body: object,
    queue: str = "completions.high",
    size_bytes: int = 0,
    share_of: Callable[[TenantId], TenantShare] = no_limits,
) -> object:
    said = CallerMessage(body=body, task_id="task-1", queue=queue, size_bytes=size_bytes)
    return job_from_message(
        said,
        Words(),
        job_id=JobId("job_1"),
        now=datetime(2026, 1, 1, tzinfo=UTC),
        tenants=frozenset({"default"}),
        max_body_bytes=MOST_BYTES,
        share_of=share_of,
    )


async def test_a_bug_in_one_job_of_a_slice_does_not_stop_the_others() -> None:
    ran: list[str] = []

    async def run(job: Published) -> None:
        if job.job_id == "bad":
            raise ZeroDivisionError
        ran.append(job.job_id)

    jobs = [Published(job_id=JobId(name), generation=0) for name in ("a", "bad", "b")]

    assert await run_slice(message(jobs), run) == 3
    assert ran == ["a", "b"]


@pytest.mark.parametrize("body", [None, 7, {"v": 2, "jobs": []}, {"v": 1}])
async def test_a_message_that_we_did_not_write_is_refused(body: object) -> None:
    async def run(job: Published) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match="version 1"):
        await run_slice(body, run)


@pytest.mark.parametrize(
    "pair",
    [
        ["a\0b", 0],
        ["", 0],
        ["j" * 129, 0],
        [[], 0],
        ["j", float("inf")],
        ["j", 2**31],
        ["j", -1],
        ["j", "0"],
        ["j"],
        5,
        "j",
    ],
)
async def test_a_slice_with_a_job_that_none_can_be_is_refused_whole(pair: object) -> None:
    async def run(job: Published) -> None:
        raise AssertionError

    with pytest.raises((TypeError, ValueError)):
        await run_slice({"v": 1, "jobs": [["fine", 0], pair]}, run)


@pytest.mark.parametrize("tenant", [[], {}, 7, None, True, ["default"], "nobody", "x" * 5_000])
def test_a_tenant_that_is_none_is_refused_by_name(tenant: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed({**BODY, "tenant": tenant})

    assert refused.value.param == "tenant"
    assert len(refused.value.message) < 200


def test_a_body_is_as_large_as_over_http_at_most() -> None:
    room = MOST_BYTES - len(orjson.dumps({**BODY, "stop": ""}))
    fits, too_large = ({**BODY, "stop": "x" * length} for length in (room, room + 1))
    escaped = {**BODY, "stop": "\u00e4" * (room // 2)}  # Celery's JSON sends six bytes where HTTP sends two

    assert parsed(fits, size_bytes=10 * MOST_BYTES)
    assert parsed(escaped, size_bytes=10 * MOST_BYTES)
    with pytest.raises(InvalidRequest, match="at most 1000 bytes"):
        parsed(too_large, size_bytes=10 * MOST_BYTES)


def test_a_large_body_of_odd_values_is_measured_as_well() -> None:
    odd = {**BODY, "seed": Decimal("1E+400"), "stop": "x" * MOST_BYTES}  # Celery's JSON carries decimals

    with pytest.raises(InvalidRequest, match="at most 1000 bytes"):
        parsed(odd, size_bytes=10 * MOST_BYTES)


@pytest.mark.parametrize("job_id", ["", "jobé", "job 1", "j" * 129, "job/1", "job_1\n", 7, None])
async def test_a_slice_that_names_what_is_no_id_is_refused(job_id: object) -> None:
    async def run(published: Published) -> None:
        raise AssertionError(published)

    with pytest.raises(ValueError, match="not the id of a job"):
        await run_slice({"v": 1, "jobs": [[job_id, 0]]}, run)


def test_the_queue_is_the_lane_and_the_task_id_the_key() -> None:
    job = parsed(BODY)

    assert (job.lane, job.idempotency_key) == (Lane.HIGH, "task-1")  # type: ignore[attr-defined]  # a NewJob


@pytest.mark.parametrize(
    ("body", "queue"), [(BODY, "completions.high"), ({**BODY, "lane": "critical"}, "completions.low")]
)
def test_a_message_to_a_lane_that_its_tenant_may_not_use_is_refused(body: object, queue: str) -> None:
    def patient(tenant_id: TenantId) -> TenantShare:
        return TenantShare(tenant_id=tenant_id, lanes=frozenset({Lane.NORMAL, Lane.LOW}))

    with pytest.raises(LaneForbidden):
        parsed(body, queue, share_of=patient)


@pytest.mark.parametrize("body", ["text", [1], {**BODY, "tenant": "nobody"}, {**BODY, "messages": "hi"}, {}])
def test_a_malformed_body_names_what_must_change(body: object) -> None:
    with pytest.raises(InvalidRequest):
        parsed(body)
