"""Makes the model's answers and counts their tokens. Pure: the same seed and request give the same answer.

A token is four characters here, in prompts and answers alike; the usage that is sent counts this way.
"""

import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from simulator import faults
from simulator.instances import Json, instance_of, words
from simulator.meter import Usage

CHARS_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_REPLY = 3
_ANY_OBJECT: Json = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
_ANSWER_MARKER = re.compile(r"\[\[answer:(.*?)\]\]", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One finished answer before it is encoded."""

    content: str | None
    finish_reason: str
    usage: Usage
    refusal: str | None = None


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """The parts of a chat request that the provider reads."""

    last_user_text: str
    tokens: int
    max_tokens: int | None
    schema: Json  # None: plain text was requested


def prompt_of(body: Mapping[str, Json]) -> Prompt:
    """Read a chat request. Raises ValueError, with a message for its sender, where it is not one."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("Missing required parameter: 'messages'.")
    last_user_text, tokens = "", _TOKENS_PER_REPLY
    for message in messages:
        if not isinstance(message, dict):
            raise ValueError("Invalid type for 'messages': expected an array of objects.")  # noqa: TRY004 - a 400
        text = _text(message.get("content"))
        tokens += tokens_in(text) + _TOKENS_PER_MESSAGE
        if message.get("role") == "user":
            last_user_text = text
    schema = _schema(body.get("response_format"))
    if schema is not None:
        tokens += tokens_in(json.dumps(schema))
    max_tokens = body.get("max_completion_tokens", body.get("max_tokens"))
    if max_tokens is not None and (not isinstance(max_tokens, int) or max_tokens < 1):
        raise ValueError("Invalid value for 'max_completion_tokens': expected an integer of at least 1.")
    return Prompt(last_user_text=last_user_text, tokens=tokens, max_tokens=max_tokens, schema=schema)


def tokens_in(text: str) -> int:
    """Return the number of tokens of a text."""
    return -(-len(text) // CHARS_PER_TOKEN)


def answer_to(prompt: Prompt, *, scenario: str, seed: int, cached_tokens: int = 0) -> Answer:
    """Return the answer of this seed, spoiled as the scenario says."""
    usage = Usage(input_tokens=prompt.tokens, cached_input_tokens=min(cached_tokens, prompt.tokens))
    if scenario == "refusal":
        refusal = "I'm sorry, but I can't help with that request."
        usage = replace(usage, output_tokens=tokens_in(refusal))
        return Answer(content=None, finish_reason="stop", usage=usage, refusal=refusal)
    text, finish_reason = _text_of(prompt, scenario, seed), "stop"
    if scenario in {"truncation", "content_filter"}:
        text, finish_reason = text[: len(text) // 2], "length" if scenario == "truncation" else "content_filter"
    if prompt.max_tokens is not None and tokens_in(text) > prompt.max_tokens:
        text, finish_reason = text[: prompt.max_tokens * CHARS_PER_TOKEN], "length"
    usage = replace(usage, output_tokens=tokens_in(text))
    return Answer(content=text, finish_reason=finish_reason, usage=usage)


def _text_of(prompt: Prompt, scenario: str, seed: int) -> str:
    if dictated := _ANSWER_MARKER.search(prompt.last_user_text):
        return _wrapped(dictated[1], scenario)
    if scenario == "prose":
        return "I read it carefully and could not decide what to report."
    if prompt.schema is None:
        return _wrapped(_plain_text(prompt, seed), scenario)
    instance = instance_of(prompt.schema, seed)
    required = _required(prompt.schema)
    if scenario == "wrong_type":
        instance = faults.with_wrong_type(instance, required)
    if scenario == "missing_field":
        instance = faults.with_missing_field(instance, required)
    text = json.dumps(instance, ensure_ascii=False)
    if scenario == "malformed_json":
        return faults.malformed(text, seed)
    return _wrapped(text, scenario)


def _wrapped(text: str, scenario: str) -> str:
    match scenario:
        case "fenced":
            return f"```json\n{text}\n```"
        case "commentary":
            return f"Sure, here is what you asked for:\n\n{text}\n\nLet me know if you need anything else!"
    return text


def _plain_text(prompt: Prompt, seed: int) -> str:
    chance = random.Random(seed)  # noqa: S311 - made-up answers, no secrets
    text = words(chance, chance.randint(8, 60)).capitalize() + "."
    most = len(text) if prompt.max_tokens is None else prompt.max_tokens * CHARS_PER_TOKEN
    return text if len(text) <= most else text[: most - 1] + "."  # a model that was asked to be brief


def _required(schema: Json) -> list[str]:
    names = schema.get("required") if isinstance(schema, dict) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _schema(response_format: Json) -> Json:
    match response_format:
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema}}:
            return schema
        case {"type": "json_schema"}:
            raise ValueError("Missing required parameter: 'response_format.json_schema.schema'.")
        case {"type": "json_object"}:
            return _ANY_OBJECT
    return None


def _text(content: Json) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n".join(part for part in parts if isinstance(part, str))
