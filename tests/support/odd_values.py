"""Values that parsers let through and stores or checks do not: in replies, in the provider's errors, in requests.

Each is an ordinary request of a tenant; a real model says the replies when it is asked to.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from simulator.scripted import ABSURD_TOKENS, HALF_CHARACTER, HUGE_INTEGER, NUL
from tests.support.trial_stack import PROMPT_MARKER, REPLY_MARKER

PAID_ONCE = 1
PAID_WITH_REPROMPTS = 3
"""The call and the two reprompts that a job has by default."""

BEYOND_BIGINT = 2**63
DEEP = 300
LONG_NAME = 2_684
"""Characters of which some fit one index and not another: a btree row holds 2,704 bytes."""


@dataclass(frozen=True, kw_only=True)
class OddValue:
    """One value: the script of the reply, what the request has beside its messages, and how often it may be paid."""

    name: str
    script: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    most_paid: int = PAID_ONCE


def contract(schema: Any) -> dict[str, Any]:  # noqa: ANN401 - a schema may be true
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def deep_object(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"deeper": found}
    return found


def error(message: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever a provider sends
    body = {"error": {"message": f"{REPLY_MARKER} {message}", "type": "invalid_request_error", "param": None} | more}
    return {"status": 400, "body": json.dumps(body)}


OBJECT = {"type": "object", "properties": {"title": {"type": "string"}}, "additionalProperties": True}
CLOSED = {"type": "object", "properties": {"title": {"type": "string"}}, "additionalProperties": False}

REPLIES = (
    OddValue(name="NUL in the content", script={"content": f"{REPLY_MARKER} a{NUL}b"}),
    OddValue(name="half a character in the content", script={"content": f"{REPLY_MARKER} {HALF_CHARACTER}"}),
    OddValue(name="NUL in the refusal", script={"message": {"content": None, "refusal": f"no{NUL}"}}),
    OddValue(name="NUL in a key of the message", script={"message": {f"odd{NUL}key": 1}}),
    OddValue(name="67-bit integer in the message", script={"message": {"score": HUGE_INTEGER}}),
    OddValue(name="NUL in the model", script={"model": f"gpt{NUL}4"}),
    OddValue(name="half a character in the model", script={"model": HALF_CHARACTER}),
    OddValue(name="model of 2,684 characters", script={"model": "m" * LONG_NAME}),
    OddValue(name="model beyond Latin-1", script={"model": "模型"}),
    OddValue(name="NUL in the finish_reason", script={"finish_reason": f"stop{NUL}"}, most_paid=PAID_WITH_REPROMPTS),
    OddValue(name="300 levels in the message", script={"message": deep_object(DEEP)}),
)
USAGES = tuple(
    OddValue(name=f"usage of {name}", script={"usage": {"prompt_tokens": tokens, "completion_tokens": tokens}})
    for name, tokens in (
        ("10^18 tokens", ABSURD_TOKENS),
        ("2^63 tokens", BEYOND_BIGINT),
        ("2^31 tokens", 2**31),
        ("-5 tokens", -5),
        ("text", "many"),
        ("half a token", 0.5),
        ("10^400 tokens", 10**400),
    )
)
CONTRACTS = (
    OddValue(
        name="escaped half character under a contract",
        script={"content": '{"title": "smile \\ud83d"}'},
        body=contract(OBJECT),
        most_paid=PAID_WITH_REPROMPTS,
    ),
    OddValue(
        name="prose around a 67-bit integer",
        script={"content": f'{REPLY_MARKER}: {{"wei": {HUGE_INTEGER}}}'},
        body=contract(OBJECT),
    ),
    OddValue(
        name="prose around half a character",
        script={"content": f'{REPLY_MARKER}: {{"title": "{HALF_CHARACTER}"}}'},
        body=contract(OBJECT),
        most_paid=PAID_WITH_REPROMPTS,
    ),
    OddValue(
        name="valid reply of 300 levels",
        script={"content": nested(DEEP)},
        body=contract({}),
        most_paid=PAID_WITH_REPROMPTS,
    ),
    OddValue(
        name="valid reply of 100,000 levels",
        script={"content": [["[", 100_000], ["]", 100_000]]},
        body=contract({}),
        most_paid=PAID_WITH_REPROMPTS,
    ),
    OddValue(
        name="NUL in a key that a complaint names",
        script={"content": '{"a\\u0000b": 1}'},
        body=contract(CLOSED),
        most_paid=PAID_WITH_REPROMPTS,
    ),
    OddValue(
        name="number beyond a double",
        script={"content": '{"much": 1e400}'},
        body=contract(OBJECT),
        most_paid=PAID_WITH_REPROMPTS,
    ),
    OddValue(
        name="$ref with an escaped name",
        script={"content": '{"a b": 1}'},
        body=contract(
            {"type": "object", "properties": {"a b": {"type": "integer"}, "c": {"$ref": "#/properties/a%20b"}}}
        ),
        most_paid=PAID_WITH_REPROMPTS,
    ),
)
ERRORS = (
    OddValue(name="NUL in an error", script=error(f"a{NUL}b", code=f"c{NUL}")),
    OddValue(name="half a character in an error", script=error(HALF_CHARACTER)),
    OddValue(name="67-bit code of an error", script=error("odd", code=HUGE_INTEGER)),
    OddValue(name="error of 300 levels", script={"status": 400, "body": f'{{"error": {nested(DEEP)}}}'}),
)
REQUESTS = (
    OddValue(name="max_tokens of 2^63", body={"max_tokens": BEYOND_BIGINT}),
    OddValue(name="n times max_completion_tokens", body={"n": 3, "max_completion_tokens": 2**62}),
    OddValue(name="max_completion_tokens of 2^31", body={"max_completion_tokens": 2**31}),
    OddValue(
        name="NUL in a part of the prompt",
        body={"messages": [{"role": "user", "content": [{"type": "text", "text": f"{PROMPT_MARKER}{NUL}"}]}]},
    ),
    OddValue(
        name="half a character in the prompt",
        body={"messages": [{"role": "user", "content": f"{PROMPT_MARKER} {HALF_CHARACTER}"}]},
    ),
    OddValue(name="65-bit seed", body={"seed": 18446744073709551617}),
    OddValue(name="NUL in the metadata", body={"metadata": {"a": f"b{NUL}"}}),
    OddValue(name="user of 4,000 characters", body={"user": "u" * 4_000}),
    OddValue(name="prompt name of 4,000 characters", body={"prompt_name": "p" * 4_000}),
    OddValue(name="253 levels in the request", body={"metadata": deep_object(253)}),
    OddValue(name="service_tier that is an object", body={"service_tier": {}}),
)
ALL = (*REPLIES, *USAGES, *CONTRACTS, *ERRORS, *REQUESTS)
EACH_KIND = (REPLIES[0], REPLIES[1], USAGES[0], CONTRACTS[0], CONTRACTS[1], CONTRACTS[3], ERRORS[0], REQUESTS[0])
"""Those that were seen to fail others' writes, for a short run."""
