"""Every event that the product logs, found in the syntax trees of its modules."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import config.logs
from tests.contract.reference import source
from tests.contract.reference.markdown import code, codes, heading, page, prose, table

LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
LOGGER = "log"
NOT_A_KEY = {"exc_info"}
FURTHER = "…"


@dataclass(frozen=True, kw_only=True)
class Event:
    name: str
    level: str
    module: str
    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Wrapper:
    """A function that logs the event that one of its parameters names."""

    function: str
    parameters: tuple[str, ...]
    event: str
    levels: tuple[str, ...]


def log_events_page() -> str:
    events = list(events_in(list(source.product_trees())))
    packages = sorted({event.module.split(".")[0] for event in events})
    return page(
        "Log events",
        prose((config.logs.__doc__ or "").partition("\n\n")[0]),
        prose(f"`exception` is logged as an error, with its traceback. `{FURTHER}` stands for keys that vary."),
        heading("Keys of all events inside a context"),
        table(("key", "bound in"), _bound_keys()),
        *(block for package in packages for block in _section(package, events)),
    )


def _section(package: str, events: list[Event]) -> tuple[str, str]:
    by_name = defaultdict[str, list[Event]](list)
    for event in events:
        if event.module.split(".")[0] == package:
            by_name[event.name].append(event)
    rows = [_row(name, by_name[name]) for name in sorted(by_name)]
    return heading(package), table(("event", "level", "keys", "module"), rows)


def _row(name: str, events: list[Event]) -> tuple[str, str, str, str]:
    levels = [level for level in LEVELS if level in {event.level for event in events}]
    keys = dict.fromkeys(key for event in events for key in event.keys)
    modules = dict.fromkeys(event.module for event in events)
    return code(name), ", ".join(levels), codes(keys) or "none", codes(modules)


def events_in(trees: Sequence[tuple[str, ast.Module]]) -> Iterator[Event]:
    """The events of modules, by their names and trees. Raises ValueError where an event's name cannot be found."""
    wrappers = list[Wrapper]()
    for module, tree in trees:
        for call, levels, function in _log_calls(tree):
            names = _names(call.args[0]) if call.args else []
            if names:
                yield from _events(names, levels, module, _keys(call, tree))
            elif (wrapper := _wrapper(call, levels, function)) is not None:
                wrappers.append(wrapper)
            else:
                raise ValueError(f"{module}:{call.lineno}: the name of the event cannot be found: {ast.unparse(call)}")
    for module, tree in trees:
        for wrapper in wrappers:
            yield from _wrapped_events(wrapper, module, tree)


def _events(names: Iterable[str], levels: Iterable[str], module: str, keys: Iterable[str]) -> Iterator[Event]:
    for name in names:
        for level in levels:
            yield Event(name=name, level=level, module=module, keys=tuple(keys))


def _log_calls(tree: ast.Module) -> Iterator[tuple[ast.Call, list[str], ast.AST]]:
    """Each call of the logger, its levels, and the innermost function around it."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    around = {call: node for node in functions for call in ast.walk(node) if isinstance(call, ast.Call)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda call: call.lineno):
        function = around.get(call, tree)
        levels = _methods(call.func) or _levels_of_alias(call.func, function)
        if levels:
            yield call, levels, function


def _methods(node: ast.AST) -> list[str]:
    is_method = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == LOGGER
    return [node.attr] if is_method and isinstance(node, ast.Attribute) and node.attr in LEVELS else []


def _levels_of_alias(func: ast.expr, function: ast.AST) -> list[str]:
    """Levels of a name that was bound to methods of the logger, as `note = log.debug if quiet else log.info`."""
    if not isinstance(func, ast.Name):
        return []
    bound = [node for node in ast.walk(function) if isinstance(node, ast.Assign) and _binds(node, func.id)]
    called = {call.func for node in bound for call in ast.walk(node) if isinstance(call, ast.Call)}
    return [level for node in bound for part in ast.walk(node.value) if part not in called for level in _methods(part)]


def _binds(node: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in node.targets)


def _names(node: ast.expr) -> list[str]:
    if isinstance(node, ast.IfExp):
        return _names(node.body) + _names(node.orelse)
    text = source.string_of(node)
    return [text] if text else []


def _wrapper(call: ast.Call, levels: list[str], function: ast.AST) -> Wrapper | None:
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or not call.args:
        return None
    parameters = [
        arg.arg for arg in [*function.args.posonlyargs, *function.args.args] if arg.arg not in {"self", "cls"}
    ]
    keyword_only = [arg.arg for arg in function.args.kwonlyargs]
    event = call.args[0]
    if not isinstance(event, ast.Name) or event.id not in parameters + keyword_only:
        return None
    return Wrapper(
        function=function.name, parameters=(*parameters, *keyword_only), event=event.id, levels=tuple(levels)
    )


def _wrapped_events(wrapper: Wrapper, module: str, tree: ast.Module) -> Iterator[Event]:
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if ast.unparse(call.func).rpartition(".")[2] == wrapper.function:
            arguments = dict(zip(wrapper.parameters, call.args, strict=False))
            arguments |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
            keys = [key for key in _keys(call, tree) if key not in wrapper.parameters]
            if wrapper.event in arguments:
                yield from _events(_names(arguments[wrapper.event]), wrapper.levels, module, keys)


def _keys(call: ast.Call, tree: ast.Module) -> list[str]:
    keys = list[str]()
    for keyword in call.keywords:
        keys += [keyword.arg] if keyword.arg else _returned_keys(keyword.value, tree)
    return [key for key in keys if key not in NOT_A_KEY]


def _returned_keys(value: ast.expr, tree: ast.Module) -> list[str]:
    """The keys of a dictionary that a function of the same module returns, as in `**_figures(job)`."""
    name = ast.unparse(value.func) if isinstance(value, ast.Call) else ""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    returned = [node.value for function in functions for node in ast.walk(function) if isinstance(node, ast.Return)]
    keys = [
        text for node in returned if isinstance(node, ast.Dict) for key in node.keys if (text := source.string_of(key))
    ]
    return keys or [FURTHER]


def _bound_keys() -> Iterator[tuple[str, str]]:
    for module, tree in source.product_trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                ("bound_contextvars", "bind_contextvars")
            ):
                yield from ((code(key), code(module)) for key in _keys(node, tree))
