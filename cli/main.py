"""Assembles the commands and maps errors to exit codes."""

import os
import sys
from collections.abc import Mapping, Sequence

import typer
from typer.exceptions import Abort, TyperException

from cli.client.errors import BatchIncomplete, ReplayStopped
from cli.command_group import CommandGroup
from cli.commands import batches, bench, budgets, controls, dead_letters, jobs, keys, limits, quote, replays, stack
from cli.demo import command as demo
from cli.options import Output, Server
from config.exit_codes import ExitCode
from schemas.errors import (
    Forbidden,
    NotFound,
    PenstockError,
    Unauthenticated,
    Unavailable,
)
from tasks.startup import SETTING_ERRORS

EPILOG = (
    "Exit codes: 0 done, 1 failure, 2 wrong usage, 3 not found, 4 unauthorised, 5 unreachable, 6 refused setting, "
    "7 the batch ended with jobs that did not complete, or the replay was stopped by its canaries, 130 interrupted."
)

EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (NotFound, ExitCode.NOT_FOUND),
    (Unauthenticated, ExitCode.UNAUTHORISED),
    (Forbidden, ExitCode.UNAUTHORISED),
    (Unavailable, ExitCode.UNREACHABLE),
    *((error, ExitCode.REFUSED_SETTING) for error in SETTING_ERRORS),
    (BatchIncomplete, ExitCode.INCOMPLETE),
    (ReplayStopped, ExitCode.INCOMPLETE),
    (PenstockError, ExitCode.FAILURE),
    (OSError, ExitCode.FAILURE),
)

app = CommandGroup(
    name="penstock",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    help="Runs LLM completion jobs at the full speed of a provider quota and never past a budget.",
)


@app.callback()
def penstock(server: Server, output: Output) -> None:
    """Accept options before the verb, which `cli.options.typed_nearest` reads."""
    _ = server, output


app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.command()(stack.check)
app.command()(demo.demo)
app.command()(quote.quote)
app.command()(batches.submit)
app.command()(batches.proceed)
app.command()(batches.watch)
app.command()(batches.results)
app.command()(controls.pause)
app.command()(controls.resume)
app.command()(controls.move)
app.command()(controls.cancel)
app.command()(controls.controls)
app.add_typer(jobs.app, name="jobs")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(replays.app, name="replays")
app.add_typer(budgets.app, name="budgets")
app.add_typer(limits.app, name="limits")
app.add_typer(keys.app, name="keys")
app.add_typer(bench.app, name="bench")


def run() -> None:
    """Run the typed command and exit with its code."""
    sys.exit(main(sys.argv[1:], os.environ))


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Run one command and return its exit code."""
    try:
        ended = typer.main.get_command(app).main(
            args=list(argv), prog_name="penstock", standalone_mode=False, obj=dict(env)
        )
    except TyperException as error:
        message = error.format_message()
        if message:
            _complain(f"{message} Try `penstock --help`.")
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        _complain("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has left; say no more
        return ExitCode.OK
    except tuple(kind for kind, _ in EXIT_CODES) as error:
        _complain(_message(error))
        return next(code for kind, code in EXIT_CODES if isinstance(error, kind))
    return ended if isinstance(ended, int) else ExitCode.OK


def _message(error: Exception) -> str:
    if isinstance(error, PenstockError):
        return error.message
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _complain(message: str) -> None:
    print(f"penstock: {message.strip()}", file=sys.stderr)  # noqa: T201 - the one line of an error
