"""Replies that the prompt dictates, byte by byte, and odd replies by seed. Knows no socket.

A script is a JSON object in base64 in the last user message: `[[script:BASE64]]`. All its fields are optional:

    id            the meter counts calls by it (`GET /meter/scripts`)
    content       text of the reply, or pieces [[text, times], ...] that are repeated and joined
    message       an object put over the message; `usage`, `model`, `finish_reason` replace the completion's own
    status, body  a raw answer in place of a completion; `body` is text or pieces, `status` is 200 when left out
    headers       further headers
    spaces        so many bytes of spaces before the body
    gzip          the body goes out compressed
    delay_ms      latency of this call; `hang` sends nothing, ever
    chunk_bytes, chunk_ms    the body goes out in pieces of this size with this pause between them

With anything but `id`, `content`, `delay_ms` and `hang`, a streamed call gets a plain body too.
"""

import base64
import binascii
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from simulator.settings import BadSetting

_MARKER = re.compile(r"\[\[script:([A-Za-z0-9_=-]+)\]\]")
_SLICE_BYTES = 1 << 20
_GZIP = 31  # zlib's number for the gzip container

NUL, HALF_CHARACTER = "\x00", "\ud83d"
HUGE_INTEGER = 100_000_000_000_000_000_001  # 67 bits, so that no column and no int64 holds it
ABSURD_TOKENS = 10**18
ODD_DEPTH = 300
"""Deeper than any of the usual parsers can write back."""

Pieces = str | list[Any]


@dataclass(frozen=True, kw_only=True)
class Script:
    """Describes one reply; the fields are those of the module's docstring."""

    id: str | None = None
    content: Pieces | None = None
    message: Mapping[str, Any] | None = None
    usage: Any = None
    model: str | None = None
    finish_reason: str | None = None
    status: int | None = None
    body: Pieces | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    spaces: int = 0
    gzip: bool = False
    delay_ms: float | None = None
    hang: bool = False
    chunk_bytes: int = 0
    chunk_ms: float = 0.0

    @property
    def is_raw(self) -> bool:
        """Whether the bytes differ from those of a completion with only its text scripted."""
        replaced = (self.message, self.usage, self.model, self.finish_reason, self.status, self.body)
        return any(part is not None for part in replaced) or bool(self.spaces or self.gzip or self.chunk_bytes)

    @property
    def is_error(self) -> bool:
        """Whether the provider refuses the call."""
        return self.status is not None and self.status >= HTTPStatus.BAD_REQUEST

    @property
    def text(self) -> str | None:
        """The content with its pieces joined."""
        return None if self.content is None else joined(self.content)

    def put_over(self, completion: bytes) -> bytes:
        """Return the body to send: the script's own, or the completion with its parts replaced."""
        if self.body is not None or self.status is not None:
            return joined(self.body or "").encode(errors="surrogatepass")
        found = json.loads(completion)
        choice = found["choices"][0]
        choice["message"] |= dict(self.message or {})
        choice["finish_reason"] = self.finish_reason or choice["finish_reason"]
        found |= {name: value for name, value in (("usage", self.usage), ("model", self.model)) if value is not None}
        return json.dumps(found).encode()

    def slices(self, body: bytes) -> Iterator[bytes]:
        """Yield the body in pieces of `chunk_bytes`, or of a size suited to a socket."""
        if self.gzip:
            yield from _cut(_compressed(self.spaces, body), self.chunk_bytes or _SLICE_BYTES)
            return
        size = self.chunk_bytes or _SLICE_BYTES
        for start in range(0, self.spaces, size):
            yield b" " * min(size, self.spaces - start)
        yield from _cut(body, size)


def script_of(last_user_text: str) -> Script | None:
    """Return the script in a message, or None. Raises BadSetting where it is not a valid one."""
    found = _MARKER.search(last_user_text)
    if found is None:
        return None
    try:
        values = json.loads(base64.urlsafe_b64decode(found[1]))
        return Script(**values)
    except (binascii.Error, ValueError, TypeError) as error:
        raise BadSetting(f"this is no script: {error}") from None


def directive(**values: object) -> str:
    """Return the marker for a message with this script. Refuses unknown names."""
    unknown = values.keys() - {part.name for part in fields(Script)}
    if unknown:
        raise BadSetting(f"a script has no {', '.join(sorted(unknown))}")
    return f"[[script:{base64.urlsafe_b64encode(json.dumps(values).encode()).decode()}]]"


def odd(seed: int, text: str) -> Script:
    """Return one of the replies that are valid JSON and hard to store, made from the text of a sound one."""
    match seed % 7:
        case 0:
            return Script(content=_with_first_letter(text, NUL))
        case 1:
            return Script(content=_with_first_letter(text, "\\ud83d"))
        case 2:
            return Script(content=re.sub(r"-?\d+", str(HUGE_INTEGER), text, count=1))
        case 3:
            return Script(content="[" * ODD_DEPTH + "]" * ODD_DEPTH)
        case 4:
            return Script(content=f"Here {HALF_CHARACTER} it is: {_with_first_letter(text, HALF_CHARACTER)}")
        case 5:
            return Script(content=text, model=f"odd{NUL}model")
    return Script(content=text, usage=dict.fromkeys(("prompt_tokens", "completion_tokens"), ABSURD_TOKENS))


def joined(pieces: Pieces) -> str:
    """Return text, or its pieces each repeated the given number of times."""
    return pieces if isinstance(pieces, str) else "".join(str(text) * int(times) for text, times in pieces)


def _with_first_letter(text: str, odd_character: str) -> str:
    """Insert the character into the first string value, or into the text itself where there is none."""
    return re.sub(r'(:\s*")', lambda found: found[1] + odd_character, text, count=1)


def _cut(body: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@lru_cache(maxsize=8)
def _compressed(spaces: int, body: bytes) -> bytes:
    """Compress slice by slice, so that a decompression bomb takes memory in its reader and not here."""
    press = zlib.compressobj(level=9, wbits=_GZIP)
    whole = Script(spaces=spaces).slices(body)
    return b"".join(press.compress(part) for part in whole) + press.flush()
