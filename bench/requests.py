"""The request that every benchmark sends, and the reply of about two kilobytes that it gets."""

import json
from typing import Any

from schemas.jsons import JsonObject

MODEL = "gpt-4.1-mini"
ANSWER_BYTES = 2_000

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "kind": {"type": "string", "enum": ["function", "class", "module"]},
        "summary": {"type": "string"},
        "parameters": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "type": {"type": "string"},
                    "required": {"type": "boolean"},
                },
                "required": ["name", "type", "required"],
                "additionalProperties": False,
            },
        },
        "pitfalls": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["kind", "summary", "parameters", "pitfalls"],
    "additionalProperties": False,
}


def request_body(number: int) -> dict[str, Any]:
    """Return a structured request as a caller writes it."""
    return {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "Describe what the documentation says, as JSON."},
            {"role": "user", "content": f"Documentation {number}: " + "Return the value for key if it is there. " * 12},
        ],
        "max_completion_tokens": 800,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "description", "strict": True, "schema": SCHEMA},
        },
    }


def answer_text() -> str:
    """Return a reply that meets the schema, of about two kilobytes."""
    answer: JsonObject = {
        "kind": "function",
        "summary": "Returns the value for a key, or a default. " * 8,
        "parameters": [{"name": f"parameter_{number}", "type": "str", "required": True} for number in range(8)],
        "pitfalls": [],
    }
    while len(json.dumps(answer)) < ANSWER_BYTES:
        answer["pitfalls"].append("The default is evaluated before the look-up happens, whatever comes of it.")
    return json.dumps(answer)


def batch_line(number: int) -> bytes:
    """Return the request as a line of a batch file."""
    line = {
        "custom_id": f"bench-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": request_body(number),
    }
    return json.dumps(line).encode() + b"\n"
