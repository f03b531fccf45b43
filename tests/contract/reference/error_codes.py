"""Errors that callers get, their codes and statuses, and the reasons that stand in jobs, attempts and refusals."""

from collections.abc import Iterator
from enum import StrEnum
from inspect import getmembers, isclass
from types import ModuleType

import api.errors
import cli.client.errors
import schemas.admission
import schemas.decision
import schemas.errors
import schemas.reply
from api.errors import BY_REASON, BY_STATE, BY_STATUS, CLIENT_GONE, STILL_RUNNING, UPSTREAM, Kind, kind_of
from cli.main import EXIT_CODES
from schemas.admission import RefusalReason, WaitReason
from schemas.decision import DeadReason
from schemas.errors import PenstockError
from schemas.reply import TroubleKind
from tests.contract.reference import source
from tests.contract.reference.markdown import code, heading, items, page, prose, table

REASONS: tuple[tuple[ModuleType, type[StrEnum]], ...] = (
    (schemas.decision, DeadReason),
    (schemas.reply, TroubleKind),
    (schemas.admission, RefusalReason),
    (schemas.admission, WaitReason),
)
STATUS_COLUMNS = ("HTTP status", "type", "code", "repeat")


def error_codes_page() -> str:
    return page(
        "Error codes",
        prose(
            "An error over HTTP is OpenAI's error object: `message`, `type`, `param` and `code`. "
            "Its message is the sentence below, or one that says more. `repeat` is what the answer tells SDKs in "
            "`x-should-retry` and `retry-after`."
        ),
        heading("Errors of the service"),
        *_http_errors([*_errors_of(schemas.errors), *_errors_of(api.errors)]),
        heading("Errors of the command line"),
        items(
            (f"{code(error.code)}, {code(error.__name__)}, exit code {_exit_code(error)}", _message(error))
            for error in _errors_of(cli.client.errors)
        ),
        heading("Statuses without an error of their own"),
        table(("HTTP status", "code"), _bare_statuses()),
        heading("How a synchronous call ends without a reply"),
        prose("A job whose reason has a status below answers with that, any other by its state."),
        table(("state", *STATUS_COLUMNS), _state_rows()),
        *(block for module, reasons in REASONS for block in _reasons(module, reasons)),
    )


def _errors_of(module: ModuleType) -> list[type[PenstockError]]:
    """Classes that are defined in the module, in their order there; without those that a job's end decides."""
    classes = [kind for _, kind in getmembers(module, isclass) if issubclass(kind, PenstockError)]
    order = [node.name for node in source.tree_of(module).body if hasattr(node, "name")]
    own = [kind for kind in classes if kind.__module__ == module.__name__ and kind is not api.errors.NotCompleted]
    return sorted(own, key=lambda kind: order.index(kind.__name__))


def _http_errors(errors: list[type[PenstockError]]) -> tuple[str, str]:
    rows = [(code(error.__name__), *_cells(kind_of(error()), error.code)) for error in errors]
    return (
        table(("error", *STATUS_COLUMNS), rows),
        items((code(error.__name__), _message(error)) for error in errors),
    )


def _cells(kind: Kind, own_code: str) -> tuple[str, str, str, str]:
    return str(kind.status), code(kind.type), code(kind.code or own_code), _repeat(kind)


def _repeat(kind: Kind) -> str:
    """What `x-should-retry` and `retry-after` say."""
    said = "" if kind.retry is None else "yes" if kind.retry else "no"
    after = f"after {kind.retry_after_seconds} s" if kind.retry_after_seconds is not None else ""
    return " ".join(part for part in (said, after) if part)


def _message(error: type[PenstockError]) -> str:
    return error().message


def _exit_code(error: type[PenstockError]) -> int:
    return int(next(number for family, number in EXIT_CODES if issubclass(error, family)))


def _bare_statuses() -> Iterator[tuple[str, str]]:
    yield from ((str(status), code(name)) for status, name in BY_STATUS.items())
    yield str(CLIENT_GONE), "none; the client has closed the connection"
    yield "500", code(api.errors.BUG["error"]["code"])


def _state_rows() -> Iterator[tuple[str, ...]]:
    for state, kind in BY_STATE.items():
        yield code(state.value), *_cells(kind, state.value)
    yield "not at rest", *_cells(STILL_RUNNING, "")
    yield "dead, without a status", *_cells(UPSTREAM, "REASON")


def _reasons(module: ModuleType, reasons: type[StrEnum]) -> Iterator[str]:
    docs = source.attribute_docs(source.class_in(source.tree_of(module), reasons.__name__))
    yield heading(reasons.__name__)
    yield prose(_first_line(reasons))
    yield table(("value", *STATUS_COLUMNS), (_reason_row(reason) for reason in reasons))
    yield items((code(reason.value), docs[reason.name]) for reason in reasons if reason.name in docs)


def _reason_row(reason: StrEnum) -> tuple[str, ...]:
    kind = BY_REASON.get(reason)
    return code(reason.value), *(_cells(kind, reason.value) if kind else ("", "", "", ""))


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip()
