"""Judges a reply against its contract. Pure.

The first candidate that meets the contract wins; otherwise the complaint is about the first. TooMuchWork is raised
before the budget is exceeded.
"""

from collections.abc import Iterator
from dataclasses import replace

from providers.contract.recovery import Step, candidates
from providers.contract.validation import CompiledSchema
from providers.contract.work import Work
from schemas.jsons import JsonObject, dumps
from schemas.outcome import Declined, Invalid, Judged, Truncated, Valid
from schemas.reply import Reply

MAX_REASON_CHARACTERS = 500
MAX_CHECKED_CHARACTERS = 1_000_000
"""JSON of one choice: several times the largest output limit of a model."""

NO_CONTENT = "The reply has no content."
NO_JSON = "The reply contains no JSON."


def judge(reply: Reply, schema: CompiledSchema | None, work: Work) -> Judged:
    """Judge all choices; the first that is not valid decides. Raises TooMuchWork."""
    verdicts = [_judge_choice(reply, choice, schema, work) for choice in reply.body["choices"]]
    valid = [verdict for verdict in verdicts if isinstance(verdict, Valid)]
    if len(valid) < len(verdicts):
        return next(verdict for verdict in verdicts if not isinstance(verdict, Valid))
    return replace(valid[0], reply=_with_recovered_json(reply, valid))


def _with_recovered_json(reply: Reply, valid: list[Valid]) -> Reply:
    """Replaces recovered content by its JSON; the attempt keeps the original text."""
    if all(verdict.recovery == Step.DIRECT for verdict in valid):
        return reply
    choices = list(map(_choice_with_recovered_json, reply.body["choices"], valid))
    return replace(reply, body={**reply.body, "choices": choices}, text=choices[0]["message"].get("content"))


def _choice_with_recovered_json(choice: JsonObject, valid: Valid) -> JsonObject:
    message = choice["message"]
    if valid.recovery == Step.DIRECT or not isinstance(message.get("content"), str):
        return choice
    return {**choice, "message": {**message, "content": dumps(valid.output).decode()}}


def _judge_choice(reply: Reply, choice: JsonObject, schema: CompiledSchema | None, work: Work) -> Judged:
    message, finish_reason = choice["message"], choice.get("finish_reason")
    if finish_reason == "content_filter":
        return Declined(reply=reply, reason="A content filter cut the reply.")
    if refusal := message.get("refusal"):
        return Declined(reply=reply, reason=str(refusal)[:MAX_REASON_CHARACTERS])
    if finish_reason == "length":
        return Truncated(reply=reply)
    texts = list(_texts(message))
    if not texts:
        return Invalid(reply=reply, complaint=NO_CONTENT)
    return Valid(reply=reply) if schema is None else _meet(reply, texts, schema, work)


def _texts(message: JsonObject) -> Iterator[str]:
    """Yields the content, else the arguments of tool calls."""
    content = message.get("content")
    if isinstance(content, str):
        yield content
        return
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        match call:
            case {"function": {"arguments": str(arguments)}}:
                yield arguments
            case _:
                yield ""


def _meet(reply: Reply, texts: list[str], schema: CompiledSchema, work: Work) -> Judged:
    characters = sum(map(len, texts))
    if characters > MAX_CHECKED_CHARACTERS:
        return Invalid(
            reply=reply,
            complaint=f"The reply has {characters} characters; at most {MAX_CHECKED_CHARACTERS} can be checked.",
        )
    complaint = None
    for candidate in (candidate for text in texts for candidate in candidates(text, work)):
        wrong = schema.complaint(candidate.value, candidate.size, work)
        if wrong is None:
            return Valid(reply=reply, output=candidate.value, recovery=candidate.step.value)
        complaint = complaint or wrong
    return Invalid(reply=reply, complaint=complaint or NO_JSON)
