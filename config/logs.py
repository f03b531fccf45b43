"""Configures logging: structlog to stderr, readable in development, JSON lines elsewhere.

`redact` hides secrets; tracebacks name places, not values (`config.tracebacks`). Celery keeps this configuration,
because workers handle `setup_logging`.
"""

import logging
import logging.config
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal

import structlog
from structlog.processors import ExceptionRenderer
from structlog.typing import Processor

from config.tracebacks import unquoted, without_values

HIDDEN = "[hidden]"

SECRET_NAME = re.compile(r"(key|password|passwd|token|secret|authorization|cookie)$", re.IGNORECASE)
"""Names whose values are hidden; a plural such as `max_tokens` is a count."""

HARMLESS_NAMES = frozenset({"idempotency_key"})
"""The caller's name for its request, used to search logs."""

SECRET_VALUE = re.compile(
    r"""
    (?P<scheme>\b[a-z][a-z0-9+.-]*://)[^\s/@]*@    # anything before the @ of an address
    | \b(?:sk|pk|rk|psk)[-_][A-Za-z0-9_-]{8,}      # API keys of providers and of ours
    | (?P<bearer>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{6,}
    """,
    re.VERBOSE,
)

QUIET_LOGGERS: Mapping[str, str] = {
    # One line per message each at info level: what a job does is in its row and in the metrics.
    "celery.app.trace": "WARNING",
    "celery.worker.strategy": "WARNING",
    # Warns at each revoke that there is no result backend; `workers.broker.revoke` revokes and logs it.
    "celery.worker.control": "ERROR",
    # Warns of each unreadable form, whose sender gets an error anyway: a loop of them would fill the log.
    "python_multipart": "ERROR",
    # One line per request: the API has its own.
    "uvicorn.access": "WARNING",
    "tornado.access": "WARNING",
    "httpx2": "WARNING",
    "asyncio": "WARNING",
}


def configure_logs(env: Literal["development", "staging", "production"], level: str = "INFO") -> None:
    """Set up logging. Safe to call twice."""
    readable = env == "development"
    logging.config.dictConfig(_standard_library(readable, level))
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared_processors(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide secrets by name or value, at any depth. A structlog processor."""
    for name, value in event.items():
        event[name] = _redacted(name, value)
    return event


def _without_quoted_exceptions(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Processes library lines that end in an exception's `repr`."""
    event["event"] = unquoted(str(event.get("event", "")))
    return event


def _redacted(name: str, value: Any) -> Any:  # noqa: ANN401 - whatever was logged
    if SECRET_NAME.search(name) and name not in HARMLESS_NAMES and not isinstance(value, int | float | None):
        return HIDDEN
    if isinstance(value, str):
        return SECRET_VALUE.sub(_masked, value)
    if isinstance(value, Mapping):
        return {inner: _redacted(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted("", item) for item in value]
    if isinstance(value, BaseException):
        return type(value).__name__
    return value


def _masked(match: re.Match[str]) -> str:
    if match["scheme"]:
        return f"{match['scheme']}{HIDDEN}@"
    return f"{match['bearer'] or ''}{HIDDEN}"


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _standard_library(readable: bool, level: str) -> dict[str, Any]:  # noqa: FBT001 - private, named at its one call
    render: list[Processor] = (
        [ExceptionRenderer(without_values), redact, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if readable
        else [ExceptionRenderer(without_values), redact, structlog.processors.JSONRenderer(default=str)]
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structlog": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": [
                    *_shared_processors(),
                    structlog.stdlib.ExtraAdder(allow=()),
                    _without_quoted_exceptions,
                ],
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
            }
        },
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "structlog"}
        },
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {name: {"level": quiet if level != "DEBUG" else "DEBUG"} for name, quiet in QUIET_LOGGERS.items()}
        | {name: {"handlers": [], "propagate": True} for name in ("uvicorn", "celery", "celery.task", "alembic")},
    }
