"""Serves prebuilt answers: no limits, no latency, a fixed usage, but metered. For measuring callers."""

import re
import time

from aiohttp import web

from simulator import streaming
from simulator.answers import Answer
from simulator.meter import Usage
from simulator.provider import Provider
from simulator.streaming import Heading

_USAGE = Usage(input_tokens=20, output_tokens=10)
_MODEL_IN_BODY = re.compile(rb'"model"\s*:\s*"([^"]+)"')


class InstantAnswers:
    """The prebuilt answers of one provider, one per model."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._bodies: dict[str, tuple[bytes, int]] = {}

    def answer(self, raw: bytes, client_request_id: str | None) -> web.Response | None:
        """Answer a chat request; None for one whose answer has to be composed."""
        found = _MODEL_IN_BODY.search(raw)
        model = "" if found is None else found[1].decode()
        settings = self._provider.settings
        is_composed = b'"stream"' in raw or (b'"response_format"' in raw and not settings.instant_answer)
        if is_composed or model not in settings.models:
            return None
        body, nano_usd = self._bodies.get(model) or self._prepare(model)
        meter, request_id = self._provider.meter, self._provider.next_request_id()
        meter.begin()
        meter.accept(time.time())
        if client_request_id is not None:
            meter.hits[client_request_id] += 1
        meter.charge(
            _USAGE,
            nano_usd,
            model=model,
            client_request_id=client_request_id or request_id,
            job_id=None,
            body=None,
        )
        meter.answered += 1
        meter.end()
        headers = {"content-type": "application/json", "x-request-id": request_id, "openai-processing-ms": "0"}
        return web.Response(body=b'{"id":"chatcmpl-' + request_id[4:].encode() + body, headers=headers)

    def _prepare(self, model: str) -> tuple[bytes, int]:
        content = self._provider.settings.instant_answer or "A prebuilt answer of the simulator."
        answer = Answer(content=content, finish_reason="stop", usage=_USAGE)
        whole = streaming.plain(Heading(completion_id="", created=int(time.time()), model=model), answer)
        rest = whole.removeprefix(b'{"id":"')
        self._bodies[model] = rest, self._provider.cost_nano_usd(model, _USAGE)
        return self._bodies[model]
