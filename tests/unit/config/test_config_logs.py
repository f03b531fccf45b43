import json
import logging
import logging.config
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from config.logs import HIDDEN, configure_logs, redact


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    logging.captureWarnings(capture=False)
    root.setLevel(level)
    for name in ("celery.app.trace", "uvicorn.access", "python_multipart"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("api_key", "abc", HIDDEN),
        ("Authorization", "Bearer abc", HIDDEN),
        ("password", "x", HIDDEN),
        ("refresh_token", "x", HIDDEN),
        ("client_secret", ["x"], HIDDEN),
        ("max_tokens", 5, 5),
        ("tokens", "12", "12"),
        ("idempotency_key", "order-7", "order-7"),
        ("custom_id", "line-1", "line-1"),
        ("url", "redis://:pw@host:1/0", f"redis://{HIDDEN}@host:1/0"),
        (
            "url",
            "postgresql://u:p%40w@host/db and http://plain.host/x",
            f"postgresql://{HIDDEN}@host/db and http://plain.host/x",
        ),
        ("reason", "Incorrect API key provided: sk-proj-abcdefgh12345", f"Incorrect API key provided: {HIDDEN}"),
        ("reason", "sent Bearer abcdefghijk to it", f"sent Bearer {HIDDEN} to it"),
        ("headers", {"x-api-key": "v", "accept": "json"}, {"x-api-key": HIDDEN, "accept": "json"}),
        ("parts", [("a", "sk-abcdefgh1234")], [["a", HIDDEN]]),
    ],
)
def test_secrets_are_hidden_by_name_and_by_value(name: str, value: object, shown: object) -> None:
    assert redact(None, "info", {name: value}) == {name: shown}


def test_outside_development_every_line_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("production")
    structlog.get_logger("mine").info("job_done", lane="low")
    logging.getLogger("celery.worker").warning("connected to %s", "redis://:pw@host")

    ours, theirs = lines(capsys)

    assert (ours["event"], ours["lane"], ours["level"], ours["logger"]) == ("job_done", "low", "info", "mine")
    assert (theirs["event"], theirs["level"]) == (f"connected to redis://{HIDDEN}@host", "warning")


def test_ids_that_are_bound_stand_on_every_line_of_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("production")
    with structlog.contextvars.bound_contextvars(job_id="job_1"):
        logging.getLogger("openai").warning("retrying")

    assert lines(capsys)[0]["job_id"] == "job_1"


def test_secrets_in_tracebacks_are_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("production")
    try:
        int("sk-proj-abcdefgh12345")
    except ValueError:
        structlog.get_logger().exception("failed")

    written = capsys.readouterr().err
    assert "Traceback" in written
    assert "abcdefgh" not in written


def test_there_is_no_line_per_message_unless_debugging(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("production")
    logging.getLogger("celery.app.trace").info("succeeded")
    assert lines(capsys) == []

    configure_logs("production", "DEBUG")
    logging.getLogger("celery.app.trace").info("succeeded")
    assert len(lines(capsys)) == 1


def test_development_reads_like_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("development")
    structlog.get_logger().info("job_done", lane="low")

    assert "job_done" in capsys.readouterr().err


MARKER = "the words of a prompt"


def raised(error: Exception) -> Exception:
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


@pytest.mark.parametrize("env", ["production", "development"])
@pytest.mark.parametrize(
    "error",
    [
        ValueError(f"invalid literal: {MARKER!r}"),
        KeyError(MARKER),
        UnicodeEncodeError("utf-8", f"{MARKER} \ud83d", 0, 1, "surrogates not allowed"),
        ExceptionGroup("two", [ValueError(MARKER)]),
    ],
)
def test_no_value_of_an_exception_reaches_a_log(
    error: Exception, env: Literal["production", "development"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs(env)
    chained = RuntimeError(MARKER)
    chained.__cause__ = raised(error)

    structlog.get_logger().error("failed", exc_info=raised(chained), reason=error)
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: <Task exception=%r>", error)
    logging.getLogger("celery.app.trace").error("Task t[1] raised unexpected: %r", error, exc_info=raised(error))

    written = capsys.readouterr().err
    assert MARKER not in written
    assert (type(error).__name__ in written, "Traceback" in written, "raised" in written) == (True, True, True)


def test_an_exception_of_ours_says_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("production")
    structlog.get_logger().error("failed", exc_info=raised(TypeError("'str' object is not callable")))

    assert "TypeError: 'str' object is not callable" in capsys.readouterr().err


def test_a_form_that_cannot_be_read_writes_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("production")
    logging.getLogger("python_multipart.multipart").warning("Invalid character in multipart form")

    assert lines(capsys) == []
