"""Environment variables of `config.settings`, and the tables and keys of `penstock.toml`."""

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import config.amounts
import config.budgets
import config.catalogue
import config.settings
import config.tables
import config.tenants
from config.catalogue import Catalogue
from config.settings import Settings
from config.tables import Table
from tests.contract.reference import source
from tests.contract.reference.json_schema import Schema, constraint_of, default_of, type_of
from tests.contract.reference.markdown import code, codes, heading, item, items, page, prose, table

PREFIX = str(Settings.model_config["env_prefix"])
COLUMNS = ("key", "type", "default", "constraint")
FILE_MODULES = (config.catalogue, config.budgets, config.tables, config.tenants, config.amounts)
SCALARS = (int, float, str, tuple, Decimal)
BESIDE = ("bench", "simulator")
"""Packages that a running service does not use."""


def configuration_page() -> str:
    return page(
        "Configuration",
        prose(
            "A process reads environment variables and the file that `PENSTOCK_CONFIG` names. A wrong value refuses to "
            "start. [penstock.example.toml](../../penstock.example.toml) shows the file with comments."
        ),
        heading("Environment variables"),
        *_environment(),
        heading("Other environment variables"),
        prose("The product names these outside of its settings."),
        table(("variable", "named in"), _other_variables()),
        heading("penstock.toml"),
        prose(_limits_of_file()),
        *(section for name, field in Catalogue.model_fields.items() for section in _file_section(name, field)),
        heading("Fixed values"),
        items(_documented_constants()),
        heading("Refused values"),
        prose("Further rules, with the message of each; `…` is filled in."),
        items((code(message), "") for message in _file_refusals()),
    )


def _environment() -> Iterator[str]:
    schema = Settings.model_json_schema(by_alias=False)
    tree = source.class_in(source.tree_of(config.settings), Settings.__name__)
    docs = source.attribute_docs(tree)
    rows, meanings = [], []
    for name, field in Settings.model_fields.items():
        part = schema["properties"][name]
        variables = _variables(name, field)
        default = default_of(part, required=field.is_required())
        rows.append((codes(variables), type_of(part), default, constraint_of(part)))
        if text := docs.get(name) or field.description:
            meanings.append((code(variables[0]), text))
    yield table(("variable", *COLUMNS[1:]), rows)
    yield items(meanings)
    yield "\n".join(
        ["Relations that must hold:", "", *(item(code(text)) for text in source.refusals(tree, "ValueError"))]
    )


def _variables(name: str, field: FieldInfo) -> list[str]:
    choices: Iterable[Any] = getattr(field.validation_alias, "choices", ())
    return [str(choice) for choice in choices] or [f"{PREFIX}{name.upper()}"]


def _other_variables() -> Iterator[tuple[str, str]]:
    known = {variable for name, field in Settings.model_fields.items() for variable in _variables(name, field)}
    named = defaultdict[str, set[str]](set)
    for module, tree in source.product_trees():
        for node in ast.walk(tree):
            text = source.string_of(node) if isinstance(node, ast.expr) else None
            if text and re.fullmatch(rf"{PREFIX}[A-Z_]*[A-Z]", text) and module.split(".")[0] not in BESIDE:
                named[text].add(module)
    return ((code(variable), codes(sorted(named[variable]))) for variable in sorted(named.keys() - known))


def _file_section(name: str, field: FieldInfo) -> Iterator[str]:
    part = Catalogue.model_json_schema()["properties"][name]
    built_in = list(_built_in(getattr(Catalogue(), name)))
    model = _model_in(field.annotation)
    if model is not None:
        yield from _model_section([], name, field, part, built_in, level=3)
        return
    yield heading(f"[{name}]", 3)
    yield prose(
        f"Each key is a {type_of(part.get('propertyNames', {'type': 'string'}))}, each value a "
        f"{type_of(part['additionalProperties'])}."
    )
    yield from built_in


def _model_section(
    path: Sequence[str], key: str, field: FieldInfo, part: Schema, built_in: Iterable[str] = (), *, level: int
) -> Iterator[str]:
    """A model's docstring, its keys, their meanings, what holds without it, and the same of the models inside."""
    model = _model_in(field.annotation)
    assert model is not None
    is_named = get_origin(field.annotation) is dict
    names = part.get("propertyNames", {}).get("enum", ())
    inner_path = [*path, key, *(["NAME"] if is_named else [])]
    yield heading(f"[[{key}]]" if get_origin(field.annotation) is tuple else f"[{'.'.join(inner_path)}]", level)
    yield prose(f"NAME is one of {codes(names)}.") if names else ""
    yield from (prose(text) for text in _model_docs(model))
    schema, docs = model.model_json_schema(), _key_docs(model)
    fields = {inner.alias or name: (name, inner) for name, inner in model.model_fields.items()}
    yield table(COLUMNS, ((code(name), *_cells(schema, name)) for name in fields))
    yield items((code(alias), docs[name]) for alias, (name, _) in fields.items() if name in docs)
    yield from built_in
    for alias, (_, inner) in fields.items():
        if _model_in(inner.annotation) is not None:
            yield from _model_section(inner_path, alias, inner, schema["properties"][alias], level=level + 1)


def _model_docs(model: type[BaseModel]) -> list[str]:
    """Docstrings of the model and of those that it extends, the most general first."""
    ours = {module.__name__ for module in FILE_MODULES}
    kinds = [kind for kind in reversed(model.__mro__) if kind.__module__ in ours and kind is not Table]
    return [text for kind in kinds if (text := kind.__dict__.get("__doc__"))]


def _cells(schema: Schema, key: str) -> tuple[str, str, str]:
    part = schema["properties"][key]
    return type_of(part), default_of(part, required=key in schema.get("required", ())), constraint_of(part)


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part)) is not None), None)


def _key_docs(model: type[BaseModel]) -> dict[str, str]:
    """The docstrings of a model's keys; where a key has none, those of the type aliases that it is annotated with."""
    docs: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        module = next((module for module in FILE_MODULES if module.__name__ == kind.__module__), None)
        if module is None:
            continue
        tree = source.tree_of(module)
        node = source.class_in(tree, kind.__name__)
        own = source.attribute_docs(node)
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                name = statement.target.id
                text = own.get(name) or " ".join(_alias_docs(statement.annotation))
                docs |= {name: text} if text else {}
    return docs


def _alias_docs(annotation: ast.expr) -> list[str]:
    trees = [source.tree_of(module) for module in FILE_MODULES]
    docs = {name: text for tree in trees for name, text in source.attribute_docs(tree).items()}
    values = {
        node.target.id: node.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
    }
    found = list[str]()
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name) and node.id in docs and node.id in values:
            found += [docs[node.id], *_alias_docs(values[node.id])]
    return found


def _built_in(value: object) -> Iterator[str]:
    """What holds where the file has no such table."""
    if isinstance(value, Mapping) and value:
        yield "Where the file has no such table:"
        yield items((code(name), _dumped(entry)) for name, entry in value.items())


def _dumped(value: object) -> str:
    plain = value.model_dump(mode="json", exclude_unset=True) if isinstance(value, BaseModel) else value
    return code(json.dumps(plain)) if plain else "the defaults of its keys"


def _documented_constants() -> Iterator[tuple[str, str]]:
    for module in FILE_MODULES:
        for name, text in source.attribute_docs(source.tree_of(module)).items():
            value = getattr(module, name)
            if name.isupper() and isinstance(value, SCALARS):
                shown = format(value, "f") if isinstance(value, Decimal) else json.dumps(value)
                yield f"{code(name)} ({code(shown)})", text


def _file_refusals() -> list[str]:
    return [text for module in FILE_MODULES for text in source.refusals(source.tree_of(module), "ValueError")]


def _limits_of_file() -> str:
    """What the module says after its first paragraph, which is about its code."""
    return (config.catalogue.__doc__ or "").partition("\n\n")[2]
