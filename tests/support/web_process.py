"""What tests of the HTTP door share: the shape of its errors, and a look until something holds."""

import time
from collections.abc import Callable
from typing import TypeVar

import httpx2
import orjson

from schemas.jsons import JsonObject

MESSAGES = [{"role": "user", "content": "hi"}]
LINE = orjson.dumps(
    {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "small", "messages": MESSAGES},
    }
)
WITHIN_SECONDS = 20.0
LOOK_SECONDS = 0.05

Value = TypeVar("Value")


def error_of(answer: httpx2.Response) -> JsonObject:
    """The error object, which has exactly OpenAI's four keys."""
    error: JsonObject = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")
    return error


def eventually(ask: Callable[[], Value], holds: Callable[[Value], bool]) -> Value:
    """What is asked for, once it holds."""
    give_up_at = time.monotonic() + WITHIN_SECONDS
    while not holds(value := ask()):
        assert time.monotonic() < give_up_at, value
        time.sleep(LOOK_SECONDS)
    return value


def a_batch_file(client: httpx2.Client, content: bytes = LINE) -> str:
    """Upload a file for a batch; returns its id."""
    answer = client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", content)})
    file_id: str = answer.json()["id"]
    return file_id
