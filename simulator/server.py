"""Serves the routes, waits, and sends complete, partial and missing answers.

One aiohttp low-level server, one process, one core. A handler is cancelled when its client hangs up; by then the call
is billed, as with a real provider.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict

from simulator import desk, embeddings, faults, streaming
from simulator.answers import Answer, tokens_in
from simulator.faults import ErrorShape
from simulator.instant import InstantAnswers
from simulator.meter import Usage
from simulator.provider import Arrival, Call, ClosedBeforeBilling, Provider, Turned
from simulator.scripted import Script
from simulator.streaming import Heading

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
_JSON, _EVENTS = "application/json", "text/event-stream; charset=utf-8"
_MOST_BYTES = 64 * 1024 * 1024  # of one request body
_STOP_WITHIN_SECONDS = 0.3

Route = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Server:
    """Serves one provider."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self._routes: dict[tuple[str, str], Route] = {
            ("POST", CHAT): self._instant_or_chat if provider.settings.instant else self._counted(self._chat),
            ("POST", EMBEDDINGS): self._counted(self._embeddings),
        }
        self._instant = InstantAnswers(provider)
        self._web = web.Server(self.handle, request_factory=_request, access_log=None, handler_cancellation=True)

    async def serve(self, listening: socket.socket, stop: asyncio.Event) -> None:
        """Serve on the socket until stopped; calls still waiting are cut off."""
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(self._web, sock=listening, backlog=4096)
        await stop.wait()
        listener.close()
        await self._web.shutdown(_STOP_WITHIN_SECONDS)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        route = self._routes.get((request.method, request.path))
        if route is not None:
            return await route(request)
        try:
            return desk.answer(
                self.provider,
                request.method,
                request.path,
                request.query,
                raw=await request.read(),
                unix_now=time.time(),
            )
        except Turned as turned:
            return self._error(turned.shape)

    def _counted(self, route: Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]) -> Route:
        async def counted(request: web.BaseRequest) -> web.StreamResponse:
            request_id = self.provider.next_request_id()
            meter = self.provider.meter
            meter.begin()
            try:
                return await route(request, request_id)
            except Turned as turned:
                return self._error(turned.shape, request_id, turned.headers)
            except ClosedBeforeBilling:
                return _closed(request)
            finally:
                meter.end()

        return counted

    async def _chat(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        provider, arrived_at = self.provider, time.monotonic()
        call = provider.read(await self._arrival(request), request_id)
        prompt = provider.read_prompt(call)
        call = provider.with_scenario(call, prompt.last_user_text)
        charged = provider.charged_tokens(prompt.tokens, prompt.max_tokens)
        headers = self._admitted(call, charged)
        script, answer = provider.scripted(call, prompt)
        call = provider.paced(call, script)
        provider.bill(call, answer.usage, script)
        self._store(call, answer)
        if script is not None and (script.is_raw or script.hang):
            response = await self._scripted(request, call, answer, script, headers)
        elif call.body.get("stream") is True:
            response = await self._stream(request, call, answer, headers)
        else:
            response = await self._whole(request, call, answer, headers, arrived_at)
        provider.settle(call, charged, answer.usage, now=time.monotonic())
        return response

    def _store(self, call: Call, answer: Answer) -> None:
        if call.body.get("store") is True:
            heading, metadata = _heading(call), call.body.get("metadata")
            body = streaming.plain(heading, answer, metadata=metadata or {})
            self.provider.shelf.keep(heading.completion_id, model=call.model, metadata=metadata, body=body)

    def _admitted(self, call: Call, charged_tokens: int) -> CIMultiDict[str]:
        now = time.monotonic()
        self.provider.admit(call, charged_tokens, now=now, unix_now=time.time())
        headers = CIMultiDict(self.provider.quota(call.key, call.model, now).headers(now))
        headers["x-request-id"] = call.request_id
        headers["openai-version"] = "2020-10-01"
        headers["openai-organization"] = "org-simulator"
        return headers

    async def _whole(
        self, request: web.BaseRequest, call: Call, answer: Answer, headers: CIMultiDict[str], arrived_at: float
    ) -> web.StreamResponse:
        await _wait(call.latency_seconds, call.scenario)
        headers["openai-processing-ms"] = str(round((time.monotonic() - arrived_at) * 1000))
        metadata = call.body.get("metadata") if call.body.get("store") else None
        body = streaming.plain(_heading(call), answer, metadata=metadata)
        match call.scenario:
            case "reset_after":
                return _closed(request)
            case "stream_error":
                return self._error(faults.SERVER_ERROR, call.request_id, headers)
            case "cut" | "stalled":
                return await _half(request, body, headers, stalled=call.scenario == "stalled")
        self.provider.meter.answered += 1
        headers["content-type"] = _JSON
        return web.Response(body=body, headers=headers)

    async def _scripted(
        self, request: web.BaseRequest, call: Call, answer: Answer, script: Script, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        await _wait(call.latency_seconds, "hang" if script.hang else call.scenario)
        headers.update({"content-type": _JSON, **script.headers})
        if script.gzip:
            headers["content-encoding"] = "gzip"
        response = web.StreamResponse(status=script.status or HTTPStatus.OK, headers=headers)
        await response.prepare(request)
        for part in script.slices(script.put_over(streaming.plain(_heading(call), answer))):
            await response.write(part)
            if script.chunk_ms:
                await asyncio.sleep(script.chunk_ms / 1000)
        self.provider.meter.answered += 1
        await response.write_eof()
        return response

    async def _stream(
        self, request: web.BaseRequest, call: Call, answer: Answer, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        options = call.body.get("stream_options")
        include_usage = isinstance(options, dict) and options.get("include_usage") is True
        events = streaming.chunks(_heading(call), answer, include_usage=include_usage)
        first_wait = call.latency_seconds * 0.3  # to the first token; the rest is spread over the others
        between = call.latency_seconds * 0.7 / len(events)
        await _wait(first_wait, call.scenario)
        if call.scenario == "reset_after":
            return _closed(request)
        headers["content-type"] = _EVENTS
        headers["openai-processing-ms"] = str(round(first_wait * 1000))
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        last = len(events) // 2 if call.scenario in {"cut", "stalled", "stream_error"} else len(events)
        for event in events[:last]:
            await response.write(event)
            if between:
                await asyncio.sleep(between)
        match call.scenario:
            case "stalled":
                await _for_ever()
            case "stream_error":
                await response.write(streaming.error_event(faults.SERVER_ERROR.body()))
            case "cut":
                pass
            case _:
                self.provider.meter.answered += 1
        await response.write_eof()
        return response

    async def _embeddings(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        provider, arrived_at = self.provider, time.monotonic()
        call = provider.read(await self._arrival(request), request_id)
        texts = embeddings.texts_in(call.body.get("input"))
        if not texts:
            shape = ErrorShape(
                status=400, type="invalid_request_error", code=None, message="'input' must be text.", param="input"
            )
            raise provider.turned(shape, "bad_request")
        call = provider.with_scenario(call, "")
        usage = Usage(input_tokens=sum(tokens_in(text) for text in texts))
        headers = self._admitted(call, usage.input_tokens)
        provider.bill(call, usage)
        await _wait(call.latency_seconds, call.scenario)
        if call.scenario == "reset_after":
            return _closed(request)
        headers["openai-processing-ms"] = str(round((time.monotonic() - arrived_at) * 1000))
        headers["content-type"] = _JSON
        provider.meter.answered += 1
        return web.Response(body=embeddings.body_of(call.body, call.model, texts, usage.input_tokens), headers=headers)

    async def _instant_or_chat(self, request: web.BaseRequest) -> web.StreamResponse:
        instant = self._instant.answer(await request.read(), request.headers.get("x-client-request-id"))
        return await self._counted(self._chat)(request) if instant is None else instant

    async def _arrival(self, request: web.BaseRequest) -> Arrival:
        headers = request.headers
        scheme, _, key = headers.get("authorization", "").partition(" ")
        client_request_id = headers.get("x-client-request-id")
        if client_request_id is not None:
            self.provider.meter.hits[client_request_id] += 1
        latency = headers.get("x-simulator-latency-ms")
        return Arrival(
            key=key if scheme.lower() == "bearer" and key else None,
            client_request_id=client_request_id,
            scenario=headers.get("x-simulator-scenario"),
            latency_ms=float(latency) if latency is not None and latency.replace(".", "", 1).isdigit() else None,
            raw=await request.read(),
        )

    def _error(self, shape: ErrorShape, request_id: str | None = None, headers: object = None) -> web.StreamResponse:
        found = CIMultiDict(headers) if isinstance(headers, dict | CIMultiDict) else CIMultiDict[str]()
        found["x-request-id"] = request_id or self.provider.next_request_id()
        found["content-type"] = _JSON
        return web.Response(status=shape.status, body=shape.body(), headers=found)


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: "asyncio.Task[None]",
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_MOST_BYTES)


def _heading(call: Call) -> Heading:
    return Heading(completion_id="chatcmpl-" + call.request_id[4:], created=int(time.time()), model=call.model)


def _closed(request: web.BaseRequest) -> web.Response:
    """Close the connection at once; the returned response can no longer be sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _half(
    request: web.BaseRequest, body: bytes, headers: CIMultiDict[str], *, stalled: bool
) -> web.StreamResponse:
    headers["content-type"], headers["content-length"] = _JSON, str(len(body))
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if stalled:
        await _for_ever()
    if request.transport is not None:
        request.transport.close()  # what was written is still sent
    return response


async def _wait(seconds: float, scenario: str) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
    if scenario == "hang":
        await _for_ever()


async def _for_ever() -> None:
    """Wait until the client hangs up or the server stops, which both cancel."""
    with suppress(TimeoutError):
        await asyncio.Event().wait()
