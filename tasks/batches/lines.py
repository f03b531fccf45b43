"""Reads and writes lines of OpenAI's batch files. Pure.

One wrong line refuses the whole file, as at OpenAI, so that nobody pays for half a batch by accident.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any

import orjson
import structlog

from schemas.batch import BatchTerms, RestedJob
from schemas.bounds import check_nodes
from schemas.errors import InvalidRequest
from schemas.ids import JobId
from schemas.job import CHAT_COMPLETIONS, NewJob
from schemas.jsons import NEW_LINE, JsonObject, MalformedJson, dumps, on_one_line, parse
from schemas.states import JobState
from tasks.requests.chat import Origin, Vocabulary, checked_name, parse_chat_request

log = structlog.get_logger()

MAX_LINE_BYTES = 1_000_000
MAX_REPORTED_ERRORS = 100
MAX_CUSTOM_ID_CHARACTERS = 255
SUPPORTED_ENDPOINTS = (CHAT_COMPLETIONS,)

_ERROR_OF_STATE = {
    JobState.EXPIRED: (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
    JobState.CANCELLED: ("batch_cancelled", "This request was cancelled before it could be executed."),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LineError:
    """Reports one line's error, as in `errors.data`. Lines count from 1; None is the batch."""

    code: str
    message: str
    line: int | None
    param: str | None = None


@dataclass(slots=True)
class LineReader:
    """Turns lines into jobs, and refuses duplicate custom ids."""

    terms: BatchTerms
    vocabulary: Vocabulary
    now: datetime
    new_job_id: Callable[[], JobId]
    max_bytes: int = MAX_LINE_BYTES
    _seen: set[bytes] = field(default_factory=set)
    _has_logged: bool = False

    def read(self, number: int, line: bytes) -> NewJob | LineError | None:
        """Return the line's job or its error, None for an empty line.

        Never raises: a bug becomes an error of the line.
        """
        try:
            return self._read(number, line)
        except Exception:  # a bug over one line must not fail the others
            if not self._has_logged:  # once per file: each of its lines may have the same fault
                self._has_logged = True
                log.exception("line_unreadable", batch_id=self.terms.id, line=number)
            message = "This line met an error of this service, which its log describes under the batch and the line."
            return LineError(code="internal_error", message=message, line=number)

    def _read(self, number: int, line: bytes) -> NewJob | LineError | None:
        if len(line) > self.max_bytes:
            message = f"A line may have at most {self.max_bytes} bytes."
            return LineError(code="line_too_long", message=message, line=number)
        if not line.strip():
            return None
        try:
            check_nodes(line)
        except InvalidRequest as error:
            return LineError(code=error.code, message=error.message, line=number)
        try:
            entry = parse(line)
        except MalformedJson as error:
            return LineError(code="invalid_json_line", message=f"This line is not JSON: {error}.", line=number)
        complaint = self._complaint_about(entry, number)
        if complaint is not None:
            return complaint
        return self._job(entry, number)

    def _complaint_about(self, entry: Any, number: int) -> LineError | None:  # noqa: ANN401 - unparsed
        if not isinstance(entry, dict):
            return LineError(code="invalid_json_line", message="A line must be a JSON object.", line=number)
        try:
            custom_id = checked_name(entry.get("custom_id"), "custom_id", MAX_CUSTOM_ID_CHARACTERS)
        except InvalidRequest as error:
            return LineError(code="missing_required_parameter", message=error.message, line=number, param="custom_id")
        if entry.get("method", "POST") != "POST":
            return LineError(code="invalid_method", message="method must be POST.", line=number, param="method")
        if entry.get("url") != self.terms.endpoint:
            message = f"url must be the endpoint of the batch, {self.terms.endpoint}."
            return LineError(code="invalid_url", message=message, line=number, param="url")
        seen = blake2b(custom_id.encode(), digest_size=16).digest()  # a quarter of the memory of long names
        if seen in self._seen:
            message = f"custom_id {custom_id!r} stands on more than one line."
            return LineError(code="duplicate_custom_id", message=message, line=number, param="custom_id")
        self._seen.add(seen)
        return None

    def _job(self, entry: JsonObject, number: int) -> NewJob | LineError:
        origin = Origin(
            tenant_id=self.terms.tenant_id,
            job_id=self.new_job_id(),
            default_lane=self.terms.lane,
            idempotency_key=f"{self.terms.id}/{entry['custom_id']}",
            batch_id=self.terms.id,
            custom_id=entry["custom_id"],
            default_deadline_seconds=self.terms.window_seconds,
            lanes=self.terms.lanes,
        )
        try:
            return parse_chat_request(entry.get("body"), origin, self.vocabulary, self.now)
        except InvalidRequest as error:
            return LineError(code=error.code, message=error.message, line=number, param=error.param)


def output_line(job: RestedJob, stopped: str | None = None) -> bytes:
    """Write a line of the output file (completed) or error file (any other).

    `stopped` is why the batch stopped itself, for cancelled requests.
    """
    return dumps(
        {
            "id": f"batch_req_{job.job_id.removeprefix('job_')}",
            "custom_id": job.custom_id,
            "response": _response(job),
            "error": _error(job, stopped),
        },
        NEW_LINE,
    )


def _response(job: RestedJob) -> JsonObject | None:
    if job.state is JobState.COMPLETED:
        reply = None if job.reply is None else orjson.Fragment(on_one_line(job.reply))
        return {"status_code": 200, "request_id": job.job_id, "body": reply}
    return None


def _error(job: RestedJob, stopped: str | None) -> JsonObject | None:
    if job.state is JobState.COMPLETED:
        return None
    if job.state is JobState.CANCELLED and stopped is not None:
        return {"code": "batch_stopped", "message": stopped}
    code, message = _ERROR_OF_STATE.get(job.state, (job.dead_reason or "unknown", job.message or ""))
    return {"code": code, "message": message}
