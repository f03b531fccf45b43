"""Lets commands share options: a dataclass parameter means one option per field."""

from collections.abc import Callable
from dataclasses import is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, TypeVar

import typer

Command = TypeVar("Command", bound=Callable[..., Any])


class CommandGroup(typer.Typer):
    """Commands whose parameters may be dataclasses of options."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Command], Command]:  # noqa: ANN401 - Typer's
        """Register a command and return it unchanged."""
        return _expanding(super().command(name, **settings))

    def callback(self, **settings: Any) -> Callable[[Command], Command]:  # noqa: ANN401 - Typer's
        """Register the group's own function and return it unchanged."""
        return _expanding(super().callback(**settings))


def _expanding(register: Callable[[Callable[..., Any]], Any]) -> Callable[[Command], Command]:
    def decorator(function: Command) -> Command:
        register(expanded(function))
        return function

    return decorator


def expanded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with its dataclasses replaced by their fields as keyword parameters."""
    own_parameters: list[Parameter] = []
    option_parameters: list[Parameter] = []
    objects: dict[str, tuple[type, list[str]]] = {}
    for parameter in signature(function, eval_str=True).parameters.values():
        kind = parameter.annotation
        if isinstance(kind, type) and is_dataclass(kind):
            fields = signature(kind, eval_str=True).parameters
            objects[parameter.name] = (kind, list(fields))
            option_parameters += fields.values()
        else:
            own_parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))

    @wraps(function)
    def command(**options: Any) -> Any:  # noqa: ANN401 - what the options hold
        for name, (kind, fields) in objects.items():
            options[name] = kind(**{field: options.pop(field) for field in fields})
        return function(**options)

    command.__signature__ = Signature(own_parameters + option_parameters)  # type: ignore[attr-defined]  # read by `inspect.signature`
    return command
