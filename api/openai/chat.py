"""`/v1/chat/completions`: synchronous completions, plain or streamed.

The job runs in this process. The status is never 202, which SDKs take for an empty completion.
"""

import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response

from api.answers import Json, header_value
from api.auth import AnyCaller
from api.errors import reply_of
from api.openai.streams import EventStream, Telling
from api.presence import ClientGone, while_present
from api.requests import CHAT_BODY, IdempotencyKey, JsonBody, OfServices, OfSettings, new_job
from providers.chat.request_body import asks_for_usage, without_streaming
from schemas.accepted import JobResult
from schemas.errors import InvalidRequest, Unavailable
from schemas.job import NewJob
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from tasks.intake.submit import Intake
from tasks.requests.chat import wants_validated_stream

router = APIRouter(prefix="/v1/chat/completions", tags=["chat"])

log = structlog.get_logger()


@router.post("", openapi_extra=CHAT_BODY)
async def create_chat_completion(
    request: Request,
    caller: AnyCaller,
    body: JsonBody,
    services: OfServices,
    settings: OfSettings,
    *,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Complete a chat; `stream` sends server-sent events."""
    telling = telling_of(body)
    request_body = body if telling is not None and telling.live else without_streaming(body)
    job = new_job(
        request_body,
        caller,
        services,
        lane=Lane.CRITICAL,
        idempotency_key=idempotency_key,
        deadline_seconds=settings.total_timeout_seconds,
    )
    if telling is None:
        return await _plain(request, job, services.intake)
    return _streamed(job, services.intake, telling)


def telling_of(body: JsonObject) -> Telling | None:
    """Return how to stream, or None. Raises InvalidRequest."""
    streamed, options = body.get("stream"), body.get("stream_options") or {}
    if not isinstance(streamed, bool | None):
        raise InvalidRequest("stream must be true or false.", param="stream")
    if not isinstance(options, dict):
        raise InvalidRequest("stream_options must be an object.", param="stream_options")
    validated = wants_validated_stream(body)
    return Telling(live=not validated, include_usage=asks_for_usage(body)) if streamed else None


def waiting_headers(result: JobResult) -> dict[str, str]:
    """Return headers about the wait for admission, if any."""
    if not result.wait_ms:
        return {}
    headers = {"x-penstock-wait-ms": str(result.wait_ms), "x-penstock-lane": result.lane.value}
    return headers | ({"x-penstock-tier": header_value(result.served_by)} if result.served_by else {})


async def _plain(request: Request, job: NewJob, intake: Intake) -> Response:
    try:
        result = await while_present(request.receive, intake.complete(job))
    except ClientGone:
        await _cancel(job, intake)
        raise
    return Json(reply_of(result), headers=waiting_headers(result))


def _streamed(job: NewJob, intake: Intake, telling: Telling) -> Response:
    def about(result: JobResult | None) -> dict[str, str]:
        return {"x-penstock-lane": job.lane.value} | (waiting_headers(result) if result else {})

    return EventStream(
        lambda on_chunk: intake.complete(job, on_chunk), telling, about=about, on_gone=lambda: _cancel(job, intake)
    )


async def _cancel(job: NewJob, intake: Intake) -> None:
    """Cancel a disconnected client's job. Rescue ends it if the store is unreachable."""
    try:
        await intake.cancel(job.id, job.tenant_id)
    except Unavailable:
        log.warning("cancel_failed", job_id=job.id)
        return
    log.info("client_gone", job_id=job.id)
