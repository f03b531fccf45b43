"""Hypothesis strategies: the JSON, text and HTTP answers that callers and providers send, and no orderly one would."""

from typing import Any

import orjson
from hypothesis import strategies as st

from schemas.jsons import dumps, parse

Digits = st.text("0123456789", min_size=1, max_size=40)
Numbers = st.builds(
    lambda sign, head, tail, power: f"{sign}{head}{tail}{power}",
    st.sampled_from(["", "-"]),
    Digits.map(lambda digits: digits.lstrip("0") or "0"),
    st.just("") | Digits.map(lambda digits: f".{digits}"),
    st.just("") | st.integers(-400, 400).map(lambda power: f"e{power}"),
)
AnyText = st.text(st.characters(codec=None), max_size=12) | st.text('\0\ud83d\ude00a"\\', max_size=6)
AnyNumber = (
    st.integers()
    | st.sampled_from([2**31, 2**32, 2**63 - 1, 2**63, 2**64, 2**64 + 1, 10**18, 10**80, -1, -(2**63) - 1])
    | Numbers.map(parse)
)
AnyLeaf = st.none() | st.booleans() | AnyNumber | AnyText


def nested(levels: int, name: str | None) -> Any:  # noqa: ANN401 - any JSON value
    """A value of so many levels: lists, or objects where there is a name."""
    value: Any = 1
    for _ in range(levels):
        value = [value] if name is None else {name: value}
    return value


Deep = st.builds(nested, st.integers(60, 260), st.none() | AnyText)
AnyJson: st.SearchStrategy[Any] = st.recursive(
    AnyLeaf,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(AnyText, inner, max_size=4),
    max_leaves=12,
)

_NAMES = ("user", "seed", "max_tokens", "max_completion_tokens", "n", "service_tier", "stop", "metadata", "tools")
_MORE_NAMES = ("response_format", "stream", "temperature", "store", "prompt", "idempotency_key", "deadline_seconds")
_CONTRACTS = (
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    {"type": "json_schema", "json_schema": {"schema": {"properties": {"a": {"type": "number", "multipleOf": 0.1}}}}},
)


@st.composite
def requests(draw: st.DrawFn, model: str) -> bytes:
    """A chat request to this model, with odd values in up to four of its fields."""
    odd = draw(st.dictionaries(st.sampled_from(_NAMES + _MORE_NAMES) | AnyText, AnyJson | Deep, max_size=4))
    content = draw(st.just("hi") | AnyText | AnyJson)
    body = {"messages": [{"role": "user", "content": content}], **odd, "model": model}
    if draw(st.booleans()):
        body["response_format"] = draw(st.sampled_from(_CONTRACTS))
    return dumps(body)


@st.composite
def contents(draw: st.DrawFn) -> str:
    """What a model says: JSON in one of the shapes in which it comes, or text."""
    said = dumps(draw(AnyJson | Deep)).decode()
    frame = draw(st.sampled_from(["{}", "Sure: {}!", "```json\n{}\n```", "{},", "[{}"]))
    return frame.replace("{}", said) if draw(st.booleans()) else draw(AnyText)


@st.composite
def completions(draw: st.DrawFn) -> bytes:
    """A chat completion whose parts are what they should not be."""
    message = {"role": "assistant", "content": draw(contents()), **draw(_some(("refusal", "tool_calls", "x"), AnyJson))}
    choice = {"index": 0, "message": message, "finish_reason": draw(st.sampled_from(["stop", "length", None, {}, 1]))}
    counts = ("prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details")
    usage = {"prompt_tokens": 3, "completion_tokens": 2, **draw(_some(counts, AnyJson))}
    frame = draw(_some(("model", "id", "service_tier", "usage", "created", "extra"), AnyJson | Deep))
    return dumps({"id": "c", "model": "served", "usage": usage, **frame, "choices": [choice]})


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Events of a stream: pieces of any kind, in the end perhaps whole."""
    pieces = draw(st.lists(AnyJson | _deltas(), max_size=4))
    end = [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": draw(AnyJson)}]
    events = [dumps(piece) for piece in (*pieces, *(end if draw(st.booleans()) else ()))]
    return b"".join(b"data: " + event + b"\n\n" for event in events) + b"data: [DONE]\n\n"


def _deltas() -> st.SearchStrategy[Any]:
    deltas = st.dictionaries(st.sampled_from(["content", "tool_calls", "refusal", "x"]), AnyJson, max_size=3)
    return deltas.map(lambda delta: {"choices": [{"index": 0, "delta": delta}]})


def _some(names: tuple[str, ...], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names), values, max_size=2)


@st.composite
def errors(draw: st.DrawFn) -> bytes:
    """The body of a refusal."""
    fields = draw(st.dictionaries(st.sampled_from(["message", "code", "type", "param"]), AnyJson, max_size=4))
    return draw(st.sampled_from([dumps({"error": fields}), dumps(fields), dumps(draw(AnyJson)), draw(st.binary())]))


ORDERLY: bytes = orjson.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "served",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
)
"""What a bystander's provider says."""
