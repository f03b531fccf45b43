"""Ends of jobs, and what a provider has said, for tests of how they are told."""

from schemas.accepted import JobResult
from schemas.ids import JobId
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.states import JobState

REPLY: JsonObject = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m-1",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "fine"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


def a_chunk(text: str) -> JsonObject:
    """One chunk of a stream."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-1", "choices": [choice]}


def a_rest(state: JobState = JobState.COMPLETED, **changes: object) -> JobResult:
    """A job's end."""
    facts: dict[str, object] = {"job_id": JobId("job_0"), "state": state, "lane": Lane.NORMAL}
    return JobResult(**(facts | changes))  # type: ignore[arg-type]  # names are checked by the dataclass
