"""Assembles the chunks of a stream into one chat completion. Pure.

Invariant: a stream is whole only if every choice has its `finish_reason` and the reader saw `[DONE]`. Kept bytes and
values are bounded.
"""

from collections import defaultdict
from functools import partial
from typing import Any

from schemas.jsons import JsonObject

_SET_ONCE = frozenset({"role", "id", "type", "name"})
"""Strings of a delta that come whole; others come in pieces."""

VALUES_PER_OBJECT = 8
"""Weight of an assembled object, in values."""

TOO_LARGE = "The answer is larger than PENSTOCK_MAX_REPLY_BYTES allows."


class MalformedChunkError(Exception):
    """A part of the stream is no chunk of a chat completion."""


class StreamTooLargeError(Exception):
    """The stream exceeds the limits on what is kept."""


def as_chunk(completion: JsonObject) -> JsonObject:
    """Turn a whole completion into one chunk, for a provider that does not stream."""
    choices = [
        {
            "index": choice.get("index", position),
            "delta": choice["message"],
            "finish_reason": choice.get("finish_reason"),
        }
        for position, choice in enumerate(completion["choices"])
    ]
    return {**completion, "object": "chat.completion.chunk", "choices": choices}


class Accumulator:
    """Joins chunks within limits on bytes of text and values."""

    def __init__(self, *, most_bytes: int, most_values: int) -> None:
        self.most_bytes = most_bytes
        self._budget = _Budget(most_bytes, most_values)
        self._frame: JsonObject = {}
        self.usage: Any = None
        """The provider's usage object so far, unparsed."""
        self._choices: defaultdict[int, _Choice] = defaultdict(partial(_Choice, self._budget))
        self.chunks = 0

    @property
    def finished(self) -> bool:
        """Whether every begun choice has its `finish_reason`."""
        return bool(self._choices) and all(choice.finish_reason for choice in self._choices.values())

    @property
    def text(self) -> str | None:
        """The text of the first choice so far."""
        first = self._choices.get(0)
        return None if first is None else first.text

    @property
    def produced_bytes(self) -> int:
        """Bytes of output: an upper bound of visible tokens."""
        return sum(choice.produced_bytes for choice in self._choices.values())

    @property
    def kept_bytes(self) -> int:
        """Bytes of text held."""
        return self._budget.kept_bytes

    def add(self, chunk: Any) -> None:  # noqa: ANN401 - unparsed
        """Add one chunk. Raises MalformedChunkError and StreamTooLargeError."""
        if not isinstance(chunk, dict) or not isinstance(chunk.get("choices", []), list):
            raise MalformedChunkError
        for position, choice in enumerate(chunk.get("choices", [])):
            self._add_choice(position, choice)
        if chunk.get("usage") is not None:
            self.usage = chunk["usage"]  # one value of one event, which is bounded as such
        for name, value in chunk.items():
            if name not in {"choices", "usage", "object", "obfuscation"} and value is not None:
                self._budget.replace(self._frame, name, value)
        self.chunks += 1

    def completion(self) -> JsonObject:
        """Return the completion as without a stream."""
        choices = [choice.whole(index) for index, choice in sorted(self._choices.items())]
        return {**self._frame, "object": "chat.completion", "choices": choices, "usage": self.usage}

    def _add_choice(self, position: int, choice: Any) -> None:  # noqa: ANN401 - unparsed
        if not isinstance(choice, dict) or not isinstance(choice.get("delta", {}), dict | None):
            raise MalformedChunkError
        index = choice.get("index", position)
        if not isinstance(index, int):
            raise MalformedChunkError
        self._choices[index].add(choice)


class _Choice:
    def __init__(self, budget: "_Budget") -> None:
        budget.take(values=VALUES_PER_OBJECT)
        self._budget = budget
        self.finish_reason: str | None = None
        self.produced_bytes = 0
        self._message = _Pieces(budget)
        self._calls: defaultdict[int, _Pieces] = defaultdict(partial(_Pieces, budget))
        self._logprobs: JsonObject | None = None

    @property
    def text(self) -> str | None:
        return self._message.text("content")

    def add(self, choice: JsonObject) -> None:
        for name, value in (choice.get("delta") or {}).items():
            if name == "tool_calls" and isinstance(value, list):
                self._add_calls(value)
            else:
                self.produced_bytes += self._message.add(name, value)
        reason = choice.get("finish_reason")
        if reason and reason != self.finish_reason:
            self._budget.take_value(reason)
            self.finish_reason = reason
        self._add_logprobs(choice.get("logprobs"))

    def whole(self, index: int) -> JsonObject:
        message = {"role": "assistant", "content": None, "refusal": None, **self._message.whole()}
        if self._calls:
            message["tool_calls"] = [call.whole() for _, call in sorted(self._calls.items())]
        return {"index": index, "message": message, "logprobs": self._logprobs, "finish_reason": self.finish_reason}

    def _add_calls(self, calls: list[Any]) -> None:
        for position, call in enumerate(calls):
            if not isinstance(call, dict) or not isinstance(call.get("index", position), int):
                raise MalformedChunkError
            pieces = self._calls[call.get("index", position)]
            self.produced_bytes += sum(pieces.add(name, value) for name, value in call.items() if name != "index")

    def _add_logprobs(self, logprobs: Any) -> None:  # noqa: ANN401 - unparsed
        if isinstance(logprobs, dict):
            self._logprobs = self._logprobs or {}
            for name, value in logprobs.items():
                self._budget.extend(self._logprobs, name, value)


class _Pieces:
    """Joins the strings once, because joining each piece is quadratic."""

    def __init__(self, budget: "_Budget") -> None:
        budget.take(values=VALUES_PER_OBJECT)
        self._budget = budget
        self._strings: dict[str, list[str]] = {}
        self._objects: defaultdict[str, _Pieces] = defaultdict(partial(_Pieces, budget))
        self._others: JsonObject = {}

    def add(self, name: str, value: Any) -> int:  # noqa: ANN401 - unparsed
        """Returns the bytes of text added."""
        match value:
            case str() if name in _SET_ONCE:
                if not self._others.get(name):
                    self._budget.replace(self._others, name, value)
            case str():
                return self._add_text(name, value)
            case dict():
                pieces = self._objects[name]
                return sum(pieces.add(inner, piece) for inner, piece in value.items())
            case None if name in self._others:
                pass
            case _:
                self._budget.extend(self._others, name, value)
        return 0

    def _add_text(self, name: str, value: str) -> int:
        size = len(value.encode("utf-8", "surrogatepass"))
        self._budget.take(text_bytes=size, values=1)
        self._strings.setdefault(name, []).append(value)
        return size

    def text(self, name: str) -> str | None:
        pieces = self._strings.get(name)
        return None if pieces is None else "".join(pieces)

    def whole(self) -> JsonObject:
        strings = {name: "".join(pieces) for name, pieces in self._strings.items()}
        return {**self._others, **strings, **{name: pieces.whole() for name, pieces in self._objects.items()}}


class _Budget:
    def __init__(self, most_bytes: int, most_values: int) -> None:
        self._most_bytes = most_bytes
        self._most_values = most_values
        self.kept_bytes = self._kept_values = 0

    def take(self, *, text_bytes: int = 0, values: int = 0) -> None:
        self.kept_bytes += text_bytes
        self._kept_values += values
        if self.kept_bytes > self._most_bytes or self._kept_values > self._most_values:
            raise StreamTooLargeError(TOO_LARGE)

    def take_value(self, value: Any) -> None:  # noqa: ANN401 - unparsed
        text_bytes = values = 0
        inside = [value]
        while inside:
            part = inside.pop()
            values += 1
            if isinstance(part, str):
                text_bytes += len(part)
            elif isinstance(part, list):
                inside.extend(part)
            elif isinstance(part, dict):
                text_bytes += sum(map(len, part))
                inside.extend(part.values())
        self.take(text_bytes=text_bytes, values=values)

    def extend(self, target: JsonObject, name: str, value: Any) -> None:  # noqa: ANN401 - unparsed
        """A list continues the list before it; anything else replaces what was there."""
        earlier = target.get(name)
        if isinstance(earlier, list) and isinstance(value, list):
            self.take_value(value)
            earlier.extend(value)
        else:
            self.replace(target, name, value)

    def replace(self, target: JsonObject, name: str, value: Any) -> None:  # noqa: ANN401 - unparsed
        """A replaced value stays counted; an equal one is free."""
        if not isinstance(value, list | dict) and name in target and target[name] == value:
            return
        self.take_value(value)
        target[name] = [*value] if isinstance(value, list) else value  # a copy, which may grow
