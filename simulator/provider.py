"""Decides about one call, in order: key, body, model, fault, limits, bill. Opens no socket.

    arrive -> authorise -> read -> choose a scenario -> admit or refuse -> bill -> (server.py waits and sends)

Raises Turned, which carries the whole error answer, where a call is refused.
"""

import secrets
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import cast

import orjson

from simulator import answers, faults, scripted
from simulator.answers import Answer, Prompt
from simulator.buckets import Quota
from simulator.chance import draw, seed_from
from simulator.faults import ErrorShape
from simulator.instances import Json
from simulator.meter import Meter, Usage
from simulator.scripted import Script, script_of
from simulator.settings import BadSetting, Charge, Model, Settings
from simulator.shelf import Shelf

_CACHE_STEP_TOKENS = 128
_CACHE_LEAST_TOKENS = 1024  # OpenAI caches prefixes of 1,024 tokens and more, in steps of 128
_ANYONE = "anyone"


class Turned(Exception):  # noqa: N818 - reads as what happened
    """The call was refused with an error answer."""

    def __init__(self, shape: ErrorShape, *, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.shape, self.headers = shape, {**(headers or {}), **shape.headers}


class ClosedBeforeBilling(Exception):  # noqa: N818 - reads as what happened
    """The scenario reset_before: the connection is closed before anything was billed."""


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A call as received."""

    key: str | None
    client_request_id: str | None
    scenario: str | None
    latency_ms: float | None
    raw: bytes


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call that was read, with its scenario."""

    arrival: Arrival
    request_id: str
    key: str
    model: str
    body: dict[str, Json]
    digest: int
    scenario: str
    seed: int
    latency_seconds: float


class Provider:
    """The provider's state: buckets, meter, shares of faults."""

    def __init__(self, settings: Settings, *, unix_now: float) -> None:
        self.settings = settings
        self.shares = faults.checked_shares(settings.scenarios)
        self.meter = Meter(started_at=unix_now)
        self.shelf = Shelf()
        self._quotas: dict[tuple[str, str], Quota] = {}
        self._times_sent: Counter[int] = Counter()
        self._times_marked: Counter[str] = Counter()
        self._prefixes: set[int] = set()
        self._boot, self._ordinal = secrets.token_hex(4), 0

    def next_request_id(self) -> str:
        """Return an id that no other call has, across restarts too."""
        self._ordinal += 1
        return f"req_{self._boot}{self._ordinal:010x}"

    def read(self, arrival: Arrival, request_id: str) -> Call:
        """Check key, body and model, and choose the scenario."""
        key = self._authorised(arrival.key)
        body = self._body(arrival.raw)
        model = body.get("model")
        if not isinstance(model, str):
            raise self._bad_request("Missing required parameter: 'model'.")
        if model not in self.settings.models:
            raise self.turned(faults.model_not_found(model), "model")
        digest = int.from_bytes(blake2b(arrival.raw, digest_size=8).digest(), "big")
        self._times_sent[digest] += 1
        seed = seed_from(self.settings.seed, digest, self._times_sent[digest])
        latency_ms = arrival.latency_ms
        latency = self.settings.latency.seconds(draw(seed, "latency")) if latency_ms is None else latency_ms / 1000
        return Call(
            arrival=arrival,
            request_id=request_id,
            key=key,
            model=model,
            body=body,
            digest=digest,
            scenario=faults.NONE,
            seed=seed,
            latency_seconds=latency,
        )

    def with_scenario(self, call: Call, last_user_text: str) -> Call:
        """Choose the call's scenario: by header, else by marker, else by share."""
        try:
            scenario = self._chosen(call, last_user_text)
        except BadSetting as error:
            raise self._bad_request(str(error)) from None
        if scenario != faults.NONE:
            self.meter.scenarios[scenario] += 1
        return replace(call, scenario=scenario)

    def admit(self, call: Call, tokens: int, *, now: float, unix_now: float) -> None:
        """Admit the call, or refuse it by its scenario or by the limits."""
        quota = self.quota(call.key, call.model, now)
        if call.scenario == "reset_before":
            raise ClosedBeforeBilling
        wait = self.settings.throttle_retry_after_seconds
        shape = faults.error_of(call.scenario, model=call.model, retry_after_seconds=wait)
        if shape is not None:
            quota.charge_refused(now)
            raise self.turned(shape, call.scenario, quota.headers(now))
        refusal = quota.admit(tokens, now)
        if refusal is not None:
            shape = faults.too_many(refusal, call.model)
            raise self.turned(shape, refusal.reason.value, quota.headers(now))
        self.meter.accept(unix_now)

    def charged_tokens(self, prompt_tokens: int, max_tokens: int | None) -> int:
        """Return the tokens that a call takes from the bucket at admission."""
        match self.settings.charge:
            case Charge.SUM:
                return prompt_tokens + (max_tokens or 0)
            case Charge.MAX:
                return max(prompt_tokens, max_tokens or 0)
        return prompt_tokens

    def answer(self, call: Call, prompt: Prompt) -> Answer:
        """Return the answer, with the cached part of the prompt counted."""
        cached = self._cached_tokens(call, prompt)
        return answers.answer_to(prompt, scenario=call.scenario, seed=call.seed, cached_tokens=cached)

    def scripted(self, call: Call, prompt: Prompt) -> tuple[Script | None, Answer]:
        """Return the script of a call, from its message or its scenario, and the resulting answer."""
        answer = self.answer(call, prompt)
        script = self._script(call, prompt, answer)
        if script is None or script.text is None:
            return script, answer
        tokens = min(answers.tokens_in(script.text), prompt.max_tokens or sys.maxsize)
        return script, replace(answer, content=script.text, usage=replace(answer.usage, output_tokens=tokens))

    def paced(self, call: Call, script: Script | None) -> Call:
        """Set the latency that the call's script asks for."""
        if script is None or script.delay_ms is None:
            return call
        return replace(call, latency_seconds=script.delay_ms / 1000)

    def bill(self, call: Call, usage: Usage, script: Script | None = None) -> None:
        """Bill the actual usage, whatever usage a script reports. A script's error is free."""
        if script is not None and script.id is not None:
            self.meter.scripts[script.id] += 1
        if script is not None and script.is_error:
            return
        metadata = call.body.get("metadata")
        job_id = metadata.get("job_id") if isinstance(metadata, dict) else None
        self.meter.charge(
            usage,
            self.cost_nano_usd(call.model, usage),
            model=call.model,
            client_request_id=call.arrival.client_request_id or call.request_id,
            job_id=None if job_id is None else str(job_id),
            body=call.digest,
            usage_told=script is None or script.usage is None,
        )

    def settle(self, call: Call, charged_tokens: int, usage: Usage, *, now: float) -> None:
        """Return tokens that were charged and not used, where this provider does so."""
        if self.settings.refund:
            unused = charged_tokens - usage.input_tokens - usage.output_tokens
            self.quota(call.key, call.model, now).give_back(max(0, unused), now)

    def cost_nano_usd(self, model: str, usage: Usage) -> int:
        """Return the price of one call."""
        return self.settings.models[model].price.cost_nano_usd(
            input_tokens=usage.input_tokens,
            cached_input_tokens=usage.cached_input_tokens,
            output_tokens=usage.output_tokens,
        )

    def quota(self, key: str, model: str, now: float) -> Quota:
        """Return the buckets of a key and a model; they start full."""
        quota = self._quotas.get((key, model))
        if quota is None:
            offer = self.settings.models[model]
            quota = self._quotas[key, model] = self._new_quota(offer, now)
        return quota

    def turned(self, shape: ErrorShape, reason: str, headers: Mapping[str, str] | None = None) -> Turned:
        """Count a refusal and return it, to be raised."""
        self.meter.refused[reason] += 1
        return Turned(shape, reason=reason, headers=headers)

    def read_prompt(self, call: Call) -> Prompt:
        """Read the chat part of the body."""
        try:
            return answers.prompt_of(call.body)
        except ValueError as error:
            raise self._bad_request(str(error)) from None

    def _script(self, call: Call, prompt: Prompt, answer: Answer) -> Script | None:
        if call.scenario == "odd_reply":
            return scripted.odd(call.seed, answer.content or "")
        try:
            return script_of(prompt.last_user_text)
        except BadSetting as error:
            raise self._bad_request(str(error)) from None

    def _new_quota(self, offer: Model, now: float) -> Quota:
        settings = self.settings
        requests, tokens = offer.requests_per_minute, offer.tokens_per_minute
        return Quota(
            requests_per_minute=0
            if settings.instant
            else settings.requests_per_minute
            if requests is None
            else requests,
            tokens_per_minute=0 if settings.instant else settings.tokens_per_minute if tokens is None else tokens,
            burst_seconds=settings.burst_seconds,
            refusals_count=settings.refusals_count,
            remaining=settings.remaining,
            now=now,
        )

    def _authorised(self, key: str | None) -> str:
        if key is None or (self.settings.keys and key not in self.settings.keys):
            raise self.turned(faults.UNAUTHORIZED, "key")
        return key or _ANYONE

    def _body(self, raw: bytes) -> dict[str, Json]:
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise self._bad_request("We could not parse the JSON body of your request.") from None
        if not isinstance(body, dict):
            raise self._bad_request("The body of your request must be a JSON object.")
        return cast("dict[str, Json]", body)

    def _bad_request(self, message: str) -> Turned:
        shape = ErrorShape(status=400, type="invalid_request_error", code=None, message=message)
        return self.turned(shape, "bad_request")

    def _chosen(self, call: Call, last_user_text: str) -> str:
        if call.arrival.scenario is not None:
            return faults.known(call.arrival.scenario)
        marked = faults.marked(last_user_text)
        if marked is None:
            return faults.drawn(self.shares, draw(call.seed, "scenario"))
        scenario, most = marked
        self._times_marked[last_user_text] += 1
        return faults.known(scenario) if most is None or self._times_marked[last_user_text] <= most else faults.NONE

    def _cached_tokens(self, call: Call, prompt: Prompt) -> int:
        if not self.settings.prompt_cache or prompt.tokens < _CACHE_LEAST_TOKENS:
            return 0
        start = orjson.dumps(call.body["messages"])[: _CACHE_LEAST_TOKENS * answers.CHARS_PER_TOKEN]
        prefix = seed_from(0, call.key, call.model, start)
        if prefix in self._prefixes:
            return _CACHE_LEAST_TOKENS // _CACHE_STEP_TOKENS * _CACHE_STEP_TOKENS
        self._prefixes.add(prefix)
        return 0
