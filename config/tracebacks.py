"""Renders tracebacks for logs with places and classes, never values.

An exception's text may quote a prompt or a reply.
"""

import re
import traceback
from collections.abc import Iterator
from typing import Any

OURS = frozenset({"admission", "api", "cli", "config", "providers", "schemas", "stack", "storage", "tasks", "workers"})
"""Packages with exception texts of ours."""

TELLS_NO_VALUES = (OSError, TypeError, AttributeError, NameError, ImportError, RecursionError, MemoryError)
"""Built-in exceptions without values in their text."""

_QUOTED = re.compile(r"(exception=|raised unexpected: |raised exception: )(\w+)\(.*", re.DOTALL)


def without_values(exc_info: Any) -> str:  # noqa: ANN401 - structlog's triple
    """Return the traceback of an exception and its causes."""
    error: BaseException | None = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if error is None:
        return "NoneType: None"
    return "\n".join(_parts(error))


def unquoted(message: str) -> str:
    """Replace the final `repr` of a log message by its class."""
    return _QUOTED.sub(r"\1\2", message)


def _parts(error: BaseException) -> Iterator[str]:
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _parts(before)
        yield "\nwhich led to:\n"
    yield "Traceback (most recent call last):"
    yield "".join(traceback.format_tb(error.__traceback__)).rstrip("\n")
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    yield f"{name}: {error}" if _may_speak(error) else name
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _parts(inner)


def _may_speak(error: BaseException) -> bool:
    module = type(error).__module__
    return module.partition(".")[0] in OURS or (module == "builtins" and isinstance(error, TELLS_NO_VALUES))
