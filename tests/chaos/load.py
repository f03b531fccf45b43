"""Callers of every door, who send again under the same key until they are told yes, as callers must.

What was answered is what the campaign holds the product to: `accepted` are keys of single jobs, `batches` are ids.
"""

import http.client
import json
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from kombu.exceptions import OperationalError

from schemas.lanes import Lane
from tasks.dispatch.celery_app import celery_app
from workers.tasks import SUBMIT_TASK

CALLERS = 12
BATCH_LINES = 100
ANSWER_SECONDS = 20.0
AGAIN_SECONDS = 0.3
LANES = ("critical", "high", "normal", "low")

SCHEMA = {
    "type": "object",
    "properties": {"kind": {"type": "string"}, "size": {"type": "integer"}},
    "required": ["kind", "size"],
    "additionalProperties": False,
}

SCENARIOS = {
    "fenced": 0.03,
    "wrong_type": 0.03,
    "prose": 0.02,
    "throttle": 0.01,
    "503": 0.01,
    "reset_after": 0.003,
    "refusal": 0.002,
}
"""What the provider does wrong all the time, whatever else happens."""


@dataclass(kw_only=True)
class Load:
    """Hands in jobs evenly over the time of the campaign, in a mix of doors that chance decides."""

    url: str
    key: str
    redis_url: str
    chance: random.Random
    accepted: set[str] = field(default_factory=set)
    celery: set[str] = field(default_factory=set)
    batches: list[str] = field(default_factory=list)
    synchronous: list[int] = field(default_factory=list)
    stopping: Event = field(default_factory=Event)

    def run(self, jobs: int, seconds: float) -> None:
        """Hand in this many jobs; returns when each was accepted or was a synchronous call that ended."""
        numbers, started_at, handed_in = count(), time.monotonic(), 0
        app = celery_app(self.redis_url)
        with ThreadPoolExecutor(CALLERS) as callers:
            while handed_in < jobs and not self.stopping.is_set():
                step, size = self._chosen(min(BATCH_LINES, jobs - handed_in), numbers, app)
                callers.submit(self._until_done, step)
                handed_in += size
                due_at = started_at + handed_in * seconds / jobs
                self.stopping.wait(max(0.0, due_at - time.monotonic()))
        app.close()

    def send_missing(self, known: Callable[[], set[str]], seconds: float) -> None:
        """Send again what the broker lost before it was taken in, as its callers would."""
        app, give_up_at = celery_app(self.redis_url), time.monotonic() + seconds
        while (missing := self.celery - known()) and time.monotonic() < give_up_at:
            for key in missing:
                with suppress(OperationalError, OSError):
                    self._send(app, key)
            self.stopping.wait(2.0)
        app.close()

    def _chosen(self, lines: int, numbers: Any, app: Any) -> tuple[Callable[[], bool], int]:  # noqa: ANN401 - a counter, Celery
        drawn = self.chance.random()
        if drawn < 0.04 and lines == BATCH_LINES:
            content = "\n".join(_line(next(numbers)) for _ in range(lines))
            return (lambda: self._batch(content)), lines
        number, lane = next(numbers), self.chance.choice(LANES)
        if drawn < 0.10:
            return (lambda: self._call(number)), 1
        if drawn < 0.20:
            return (lambda: self._celery(app, f"celery-{number}")), 1
        return (lambda: self._job(number, lane)), 1

    def _until_done(self, step: Callable[[], bool]) -> None:
        while not step() and not self.stopping.is_set():
            time.sleep(AGAIN_SECONDS)

    def _job(self, number: int, lane: str) -> bool:
        key = f"job-{number}"
        told = self._ask("POST", "/jobs", message_body(number) | {"lane": lane}, {"idempotency-key": key})
        if told is not None:
            self.accepted.add(key)
        return told is not None

    def _call(self, number: int) -> bool:
        """A synchronous caller does not send again: it is gone when its connection is."""
        self._ask("POST", "/v1/chat/completions", message_body(number))
        self.synchronous.append(number)
        return True

    def _celery(self, app: Any, key: str) -> bool:  # noqa: ANN401 - Celery
        try:
            self._send(app, key)
        except (OperationalError, OSError):
            return False
        self.celery.add(key)
        return True

    def _send(self, app: Any, key: str) -> None:  # noqa: ANN401 - Celery
        body = message_body(int(key.partition("-")[2]))
        app.send_task(SUBMIT_TASK, args=[body], task_id=key, queue=Lane.NORMAL.queue, ignore_result=True, retry=False)

    def _batch(self, content: str) -> bool:
        boundary = "chaos"
        parts = f'--{boundary}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        parts += f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{content}\r\n'
        uploaded = self._ask(
            "POST",
            "/v1/files",
            f"{parts}--{boundary}--\r\n".encode(),
            {"content-type": f"multipart/form-data; boundary={boundary}"},
        )
        if uploaded is None:
            return False
        made = self._ask(
            "POST",
            "/v1/batches",
            {"input_file_id": uploaded["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"},
        )
        if made is not None:
            self.batches.append(str(made["id"]))
        return made is not None

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | bytes, headers: dict[str, str] | None = None
    ) -> dict[str, Any] | None:
        """The answer where it is a yes; None where there is none, or a no that may become a yes."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_SECONDS)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        told = {"authorization": f"Bearer {self.key}", "content-type": "application/json"} | (headers or {})
        try:
            connection.request(method, path, body=raw, headers=told)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        if answer.status >= http.client.BAD_REQUEST:
            return None
        found: dict[str, Any] = json.loads(text)
        return found


def message_body(number: int) -> dict[str, Any]:
    return {
        "model": "small" if number % 2 else "large",
        "messages": [{"role": "user", "content": f"Describe turbine number {number}, its kind and its size."}],
        "max_completion_tokens": 200,
        "output_contract": {"schema": SCHEMA},
        "deadline_seconds": 3_600,
    }


def _line(number: int) -> str:
    answer = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
    body = {name: value for name, value in message_body(number).items() if name in {"model", "messages"}}
    body |= {"response_format": answer, "max_completion_tokens": 200}
    return json.dumps({"custom_id": f"line-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body})
