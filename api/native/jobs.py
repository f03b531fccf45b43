"""`/jobs`: submit, read and cancel jobs."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.answers import Json, checked_id, page, require
from api.auth import AnyCaller, Caller
from api.native.serializers import job_object, story_object, summary_object
from api.requests import CHAT_BODY, IdempotencyKey, JsonBody, OfPrivacy, OfServices, new_job, unchecked_parts
from schemas.errors import InvalidRequest
from schemas.ids import BatchId, JobId
from schemas.lanes import Lane
from schemas.states import JobState
from storage.jobs.reads import JobFilter, JobStory, Reads

router = APIRouter(prefix="/jobs", tags=["jobs"])

MOST_ROWS = 1_000
USUAL_ROWS = 50

Limit = Annotated[int, Query(ge=1, le=MOST_ROWS)]


@router.post("", openapi_extra=CHAT_BODY)
async def submit_job(
    caller: AnyCaller, body: JsonBody, services: OfServices, *, idempotency_key: IdempotencyKey = None
) -> Json:
    """Submit a chat completion to run later. Safe to call twice under one idempotency key."""
    job = new_job(body, caller, services, lane=Lane.NORMAL, idempotency_key=idempotency_key)
    accepted = await services.intake.submit(job)
    return Json(
        {
            "id": accepted.job_id,
            "object": "job",
            "state": accepted.state,
            "lane": accepted.lane,
            "model": job.model,
            "tenant_id": job.tenant_id,
            "repeated": accepted.repeated,
            "unchecked": unchecked_parts(job, services),
        }
    )


@router.get("")
async def list_jobs(
    caller: AnyCaller,
    services: OfServices,
    *,
    state: JobState | None = None,
    lane: Lane | None = None,
    batch_id: str | None = None,
    after: str | None = None,
    limit: Limit = USUAL_ROWS,
) -> Json:
    """List jobs, newest first."""
    job_filter = JobFilter(
        state=state,
        lane=lane,
        batch_id=None if batch_id is None else BatchId(checked_id(batch_id, "batch")),
        after=None if after is None else JobId(checked_id(after, "job")),
        most=limit + 1,
    )
    return page(await services.reads.jobs(caller.tenant_id, job_filter), limit, job_object)


@router.get("/summary")
async def summarise_batch(batch_id: str, caller: AnyCaller, services: OfServices) -> Json:
    """Count the jobs of a batch and their attempts."""
    checked = BatchId(checked_id(batch_id, "batch"))
    require(await services.batches.find(checked, caller.tenant_id), "batch", batch_id)
    return Json(summary_object(await services.reads.summary(checked, caller.tenant_id)))


@router.get("/{job_id}")
async def show_job(job_id: str, caller: AnyCaller, services: OfServices, privacy: OfPrivacy) -> Json:
    """Show a job with its attempts."""
    return Json(story_object(await _find_story(job_id, caller, services.reads), content=privacy.store_content))


@router.post("/{job_id}/cancel")
async def cancel_job(job_id: str, caller: AnyCaller, services: OfServices) -> Json:
    """Cancel a job that is not terminal; its cost stays booked. Safe to call twice."""
    cancelled = await services.intake.cancel(JobId(checked_id(job_id, "job")), caller.tenant_id)
    story = await _find_story(job_id, caller, services.reads)
    if not cancelled and story.job.state is not JobState.CANCELLED:
        raise InvalidRequest(f"A job that is {story.job.state} cannot be cancelled.", param="id")
    return Json(job_object(story.job))


async def _find_story(job_id: str, caller: Caller, reads: Reads) -> JobStory:
    checked = JobId(checked_id(job_id, "job"))
    return require(await reads.story(checked, caller.tenant_id), "job", job_id)
