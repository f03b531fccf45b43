"""The commands of `penstock`, as typer describes them, and the exit codes."""

from collections import Counter
from collections.abc import Iterator

import typer

import cli.main
import config.exit_codes
from config.exit_codes import ExitCode
from tests.contract.reference import source
from tests.contract.reference.markdown import code, codes, heading, items, page, prose, table

MANY_COMMANDS = 15
"""An option that so many commands have alike is described once."""


def command_line_page() -> str:
    commands = list(_commands(typer.main.get_command(cli.main.app), ["penstock"]))
    shared = _shared(commands)
    return page(
        "Command line",
        prose(cli.main.app.info.help or ""),
        heading("Exit codes"),
        prose(cli.main.EPILOG.removeprefix("Exit codes: ")),
        _exit_codes(),
        heading("Options of many commands"),
        prose("They may also stand before the verb."),
        items((code(declaration), help_text) for declaration, help_text in shared),
        heading("Commands"),
        *(_section(context, shared) for context in commands),
    )


def _commands(command: object, names: list[str]) -> Iterator[typer.Context]:
    """A context for each command below this one, in the order of `--help`."""
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield typer.Context(child, info_name=" ".join([*names, name]))
            yield from _commands(child, [*names, name])


def _shared(contexts: list[typer.Context]) -> list[tuple[str, str]]:
    times = Counter(record for context in contexts for record in _records(context))
    return [record for record, count in times.items() if count >= MANY_COMMANDS]


def _records(context: typer.Context, kind: str = "option") -> list[tuple[str, str]]:
    parameters = [param for param in context.command.params if param.param_type_name == kind]
    records = [param.get_help_record(context) for param in parameters]
    return [(declaration, " ".join(text.split())) for declaration, text in filter(None, records)]


def _arguments(context: typer.Context) -> list[tuple[str, str]]:
    """The arguments, named as in the line of usage."""
    records = [(declaration.partition(" "), text) for declaration, text in _records(context, "argument")]
    return [(f"{name.upper()} {kind}", text) for (name, _, kind), text in records]


def _section(context: typer.Context, shared: list[tuple[str, str]]) -> str:
    command = context.command
    is_group = bool(getattr(command, "commands", {}))
    records = _records(context)
    own = [record for record in records if record not in shared]
    also = [declaration.split()[0] for declaration, text in records if (declaration, text) in shared]
    blocks = [
        heading(context.info_name or "", 3),
        prose(command.help or ""),
        "" if is_group else _usage(context),
        items((code(name), text) for name, text in [*_arguments(context), *own]),
        f"Also {codes(also)}." if also else "",
    ]
    return "\n\n".join(block for block in blocks if block)


def _usage(context: typer.Context) -> str:
    pieces = [piece.strip("{}").upper() for piece in context.command.collect_usage_pieces(context)]
    return f"```\n{' '.join([context.info_name or '', *pieces])}\n```"


def _exit_codes() -> str:
    docs = source.attribute_docs(source.class_in(source.tree_of(config.exit_codes), ExitCode.__name__))
    named = {code_: [error.__name__ for error, found in cli.main.EXIT_CODES if found == code_] for code_ in ExitCode}
    rows = [
        (code(int(member)), code(member.name), codes(named[member]), docs.get(member.name, "")) for member in ExitCode
    ]
    return table(("code", "name", "errors", "meaning"), rows)
