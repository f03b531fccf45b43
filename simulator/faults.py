"""Chooses the fault of a call by name, and makes its error or spoiled answer.

A fault is chosen by the header x-simulator-scenario, by a marker [[scenario:NAME]] in the last user message
([[scenario:NAME*2]]: only the first two times this message is sent), or else drawn by share. The same body sent again
gets a new draw; the same seed gives the same draws. `none` asks for no fault.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from simulator.buckets import Reason, Refusal, go_duration
from simulator.instances import Json
from simulator.settings import BadSetting

NONE = "none"

SCENARIOS: Mapping[str, str] = {
    # refused: not billed
    "throttle": "429 rate_limit_exceeded with retry-after",
    "slow_down": "429 slow_down: the ramp is too steep",
    "money": "429 insufficient_quota: no retry will help",
    "unauthorized": "401 invalid_api_key",
    "forbidden": "403 permission-denied: the content of this request is refused",
    "model_not_found": "404 model_not_found: the model is retired",
    "context_length": "400 context_length_exceeded",
    "500": "500 server_error",
    "503": "503 server_is_overloaded",
    "reset_before": "the connection is closed before anything is billed",
    # billed, and the answer does not arrive complete
    "reset_after": "billed, then the connection is closed without an answer",
    "hang": "billed, then nothing is ever sent",
    "cut": "billed; the stream ends half way without [DONE], a plain body is truncated",
    "stalled": "billed; half is sent, then silence",
    "stream_error": "billed; the stream carries an error event half way, a plain call gets a 500",
    # billed and answered, but not as requested
    "fenced": "the JSON stands in a markdown fence",
    "commentary": "prose around the JSON",
    "malformed_json": "JSON with a small mistake that can be mended",
    "prose": "no JSON at all",
    "wrong_type": "a property has the wrong type",
    "missing_field": "a required property is missing",
    "truncation": "finish_reason length, the text is cut",
    "refusal": "message.refusal instead of content",
    "content_filter": "finish_reason content_filter, the text is cut",
    "odd_reply": "a NUL, half a character, a huge integer, depth, an odd model or absurd usage, by seed",
}

_MARKER = re.compile(r"\[\[scenario:([a-z0-9_]+)(?:\*(\d+))?\]\]")


@dataclass(frozen=True, kw_only=True)
class ErrorShape:
    """An error answer: status, the four keys of its body without the message's figures, extra headers."""

    status: int
    type: str
    code: str | None
    message: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """Return the JSON body; all four keys are always present."""
        shape = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return json.dumps({"error": shape}).encode()


def error_of(scenario: str, *, model: str, retry_after_seconds: int) -> ErrorShape | None:
    """Return the error of a refusing scenario, None for the others."""
    match scenario:
        case "throttle":
            return ErrorShape(
                status=429,
                type="requests",
                code="rate_limit_exceeded",
                message=f"Rate limit reached for {model}. Please try again in {retry_after_seconds}s.",
                headers={"retry-after": str(retry_after_seconds)},
            )
        case "slow_down":
            text = "Your request rate increased too quickly. Reduce it to its former level, then ramp up slowly."
            return ErrorShape(status=429, type="rate_limit_error", code="slow_down", message=text)
        case "money":
            text = "You exceeded your current quota, please check your plan and billing details."
            return ErrorShape(status=429, type="insufficient_quota", code="insufficient_quota", message=text)
        case "unauthorized":
            return UNAUTHORIZED
        case "forbidden":
            return FORBIDDEN
        case "model_not_found":
            return model_not_found(model)
        case "context_length":
            text = "This model's maximum context length was exceeded. Please reduce the length of the messages."
            return ErrorShape(
                status=400,
                type="invalid_request_error",
                code="context_length_exceeded",
                message=text,
                param="messages",
            )
        case "500":
            return SERVER_ERROR
        case "503":
            text = "The server is overloaded or not ready yet."
            return ErrorShape(status=503, type="service_unavailable_error", code="server_is_overloaded", message=text)
    return None


UNAUTHORIZED = ErrorShape(
    status=401,
    type="invalid_request_error",
    code="invalid_api_key",
    message="Incorrect API key provided. You can find your API key in your account.",
)
FORBIDDEN = ErrorShape(
    status=403,
    type="invalid_request_error",
    code="permission-denied",
    message="Content violates usage guidelines.",
)
SERVER_ERROR = ErrorShape(
    status=500,
    type="server_error",
    code=None,
    message="The server had an error while processing your request. Sorry about that!",
)


def model_not_found(model: str) -> ErrorShape:
    """Return the answer for a model that is not on offer."""
    return ErrorShape(
        status=404,
        type="invalid_request_error",
        code="model_not_found",
        message=f"The model `{model}` does not exist or you do not have access to it.",
        param="model",
    )


def checked_shares(shares: Mapping[str, float]) -> dict[str, float]:
    """Return the shares in the order of SCENARIOS, so that draws do not depend on the order of input."""
    for name, share in shares.items():
        if name not in SCENARIOS:
            raise BadSetting(f"no scenario is called {name!r}; there are {', '.join(SCENARIOS)}")
        if not 0 <= share <= 1:
            raise BadSetting(f"the share of {name} must lie between 0 and 1, not {share}")
    if sum(shares.values()) > 1 + 1e-9:
        raise BadSetting(f"the shares come to {sum(shares.values())}, which is more than 1")
    return {name: shares[name] for name in SCENARIOS if shares.get(name)}


def drawn(shares: Mapping[str, float], chance: float) -> str:
    """Return the scenario that a number in [0, 1) selects."""
    for name, share in shares.items():
        if chance < share:
            return name
        chance -= share
    return NONE


def marked(last_user_text: str) -> tuple[str, int | None] | None:
    """Return the scenario that a message requests and how often, or None."""
    found = _MARKER.search(last_user_text)
    if found is None:
        return None
    return found[1], None if found[2] is None else int(found[2])


def known(scenario: str) -> str:
    """Return the name. Raises BadSetting for an unknown scenario."""
    if scenario != NONE and scenario not in SCENARIOS:
        raise BadSetting(f"no scenario is called {scenario!r}; there are {', '.join(SCENARIOS)}")
    return scenario


def with_wrong_type(instance: Json, required: list[str]) -> Json:
    """Return the instance with one value of another type, of a required property if there is one."""
    if not isinstance(instance, dict) or not instance:
        return {"unexpected": True} if not isinstance(instance, dict) else []
    name = next((name for name in required if name in instance), next(iter(instance)))
    value = instance[name]
    wrong: Json = "unexpected" if isinstance(value, dict | list) else {"unexpected": True}
    return {**instance, name: wrong}


def with_missing_field(instance: Json, required: list[str]) -> Json:
    """Return the instance without its first required property; an empty value where none is required."""
    if not isinstance(instance, dict):
        return None
    gone = next((name for name in required if name in instance), next(iter(instance), None))
    return {name: value for name, value in instance.items() if name != gone}


def malformed(text: str, kind: int) -> str:
    """Return JSON text with one of three mistakes that are easily repaired."""
    match kind % 3:
        case 0:
            return re.sub(r"([}\]])$", r",\1", text)
        case 1:
            return text.replace('"', "'")
    return text[:-1]


def too_many(refusal: Refusal, model: str) -> ErrorShape:
    """The 429 of a limit, in OpenAI's words."""
    unit = "requests" if refusal.reason is Reason.REQUESTS else "tokens"
    short = "RPM" if unit == "requests" else "TPM"
    where = f"{model} in organization org-simulator on {unit} per min ({short})"
    if refusal.reason is Reason.TOO_LARGE:
        text = (
            f"Request too large for {where}: Limit {refusal.limit}, Requested {refusal.requested}. "
            "The input or output tokens must be reduced in order to run successfully."
        )
        return ErrorShape(status=429, type="tokens", code="rate_limit_exceeded", message=text)
    wait_ms = math.ceil(refusal.wait_seconds * 1000)
    text = (
        f"Rate limit reached for {where}: Limit {refusal.limit}, Used {refusal.used}, "
        f"Requested {refusal.requested}. Please try again in {go_duration(wait_ms / 1000)}."
    )
    headers = {"retry-after": str(max(1, math.ceil(wait_ms / 1000))), "retry-after-ms": str(wait_ms)}
    return ErrorShape(status=429, type=unit, code="rate_limit_exceeded", message=text, headers=headers)
