"""Builds a batch file of real, varied requests from text that every Python installation has.

The text is the docstrings of the standard library (parsed, never imported) and the descriptions of the installed
packages, in all their lengths and shapes. The same seed on the same installation gives the same file.

    python examples/build_batch.py -o batch.jsonl --count 1200
"""

import argparse
import ast
import hashlib
import inspect
import json
import os
import random
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from itertools import chain, islice
from pathlib import Path
from typing import Any

DEFAULT_COUNT = 1_200
DEFAULT_SEED = 7
DEFAULT_MODEL = "small"
SHORTEST_TEXT_CHARACTERS = 24
LONGEST_TEXT_CHARACTERS = 6_000
MOST_PER_FILE = 15  # so that one big module does not fill the batch
MAX_OUTPUT_TOKENS = 1_000
SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__"})

ANSWER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"type": "string", "enum": ["module", "class", "function", "package"]},
        "audience": {"type": "string", "enum": ["beginner", "practitioner", "expert"]},
        "summary": {"type": "string"},
        "parameters": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "type": {"type": "string"}},
                "required": ["name", "type"],
                "additionalProperties": False,
            },
        },
        "pitfalls": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["kind", "audience", "summary", "parameters", "pitfalls"],
    "additionalProperties": False,
}

INSTRUCTIONS = (
    "Describe this piece of Python documentation for an index of an internal library portal.",
    "You are a careful technical librarian. Classify and condense the documentation that follows.",
    "Read the documentation below. Say what it documents, for whom, in one line, and what tends to go wrong.",
    "Turn the documentation into a catalogue entry. Give an empty list where it names no parameters or pitfalls.",
)


@dataclass(frozen=True, kw_only=True)
class Passage:
    """One documented thing: what it is called, what kind of thing it is, its signature if any, and its text."""

    name: str
    kind: str
    signature: str
    text: str


def passages(count: int, chance: random.Random) -> list[Passage]:
    """Return up to `count` passages: every package description first, the rest docstrings of shuffled files."""
    wanted_packages = max(1, count // 10)
    found = list(islice(package_passages(), wanted_packages))
    paths = sysconfig.get_paths()
    files = chain(  # the second folder is for installations that ship the standard library without its sources
        _shuffled_files(Path(paths["stdlib"]), chance),
        _shuffled_files(Path(paths["purelib"]), chance),
    )
    seen = {passage.text for passage in found}
    for file in files:
        if len(found) >= count:
            break
        fresh = [passage for passage in file_passages(*file) if passage.text not in seen]
        chosen = chance.sample(fresh, min(MOST_PER_FILE, len(fresh)))
        seen.update(passage.text for passage in chosen)
        found += chosen
    chance.shuffle(found)
    return found[:count]


def package_passages() -> Iterator[Passage]:
    """Yield the description of every installed package, in the order of their names."""
    distributions = {str(found.metadata["Name"]): found for found in metadata.distributions()}
    for name in sorted(distributions, key=str.lower):
        described = distributions[name].metadata.json
        text = _trimmed(f"{described.get('summary', '')}\n\n{described.get('description', '')}")
        if len(text) >= SHORTEST_TEXT_CHARACTERS:
            yield Passage(name=name, kind="package", signature="", text=text)


def source_files(folder: Path) -> list[tuple[Path, str]]:
    """Return the Python files below a folder with their module names, in a fixed order, without tests."""
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - SKIPPED_FOLDERS)
        for path in (Path(parent, name) for name in sorted(names) if name.endswith(".py")):
            parts = path.relative_to(folder).with_suffix("").parts
            files.append((path, ".".join(part for part in parts if part != "__init__")))
    return files


def file_passages(path: Path, module: str) -> list[Passage]:
    """Return the docstrings of one file, or nothing where it is no Python of this version."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError):
        return []
    return list(_documented(tree, module))


def _documented(node: ast.AST, name: str) -> Iterator[Passage]:
    kind, signature = _kind_of(node)
    if kind:
        text = _trimmed(ast.get_docstring(node) or "")  # type: ignore[arg-type]  # kinds are given to these nodes only
        if len(text) >= SHORTEST_TEXT_CHARACTERS:
            yield Passage(name=name, kind=kind, signature=signature, text=text)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _documented(child, f"{name}.{child.name}")


def _kind_of(node: ast.AST) -> tuple[str, str]:
    match node:
        case ast.Module():
            return "module", ""
        case ast.ClassDef():
            return "class", ""
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return "function", f"{node.name}({ast.unparse(node.args)})"
        case _:
            return "", ""


def _trimmed(text: str) -> str:
    clean = inspect.cleandoc(text.encode("utf-8", "ignore").decode("utf-8")).replace("\x00", "")
    return clean[:LONGEST_TEXT_CHARACTERS].strip()


def _shuffled_files(folder: Path, chance: random.Random) -> Iterator[tuple[Path, str]]:
    files = source_files(folder)
    chance.shuffle(files)
    yield from files


def request_line(number: int, passage: Passage, model: str, chance: random.Random) -> dict[str, Any]:
    """Return one line of a batch file: the passage asked about in one of several shapes."""
    fingerprint = hashlib.sha256(f"{passage.name}\n{passage.text}".encode()).hexdigest()[:12]
    return {
        "custom_id": f"{passage.kind}-{number:05d}-{fingerprint}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": model,
            "messages": _messages(passage, chance),
            "max_completion_tokens": MAX_OUTPUT_TOKENS,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "catalogue_entry", "strict": True, "schema": ANSWER},
            },
        },
    }


def _messages(passage: Passage, chance: random.Random) -> list[dict[str, str]]:
    instruction = chance.choice(INSTRUCTIONS)
    heading = passage.signature or passage.name
    question = f"{passage.name}\n{heading}\n\n{passage.text}"
    shape = chance.randrange(3)
    if shape == 0:
        return [{"role": "system", "content": instruction}, {"role": "user", "content": question}]
    if shape == 1:
        return [{"role": "user", "content": f"{instruction}\n\n```\n{question}\n```"}]
    return [
        {"role": "system", "content": instruction},
        {"role": "user", "content": f"What do you need to know about {passage.name}?"},
        {"role": "assistant", "content": "Its documentation, please."},
        {"role": "user", "content": question},
    ]


def build(count: int, seed: int, model: str) -> Iterator[str]:
    """Yield the lines of the batch file, without their ends."""
    chance = random.Random(seed)  # noqa: S311 - variety, not secrecy
    for number, passage in enumerate(passages(count, chance), start=1):
        yield json.dumps(request_line(number, passage, model, chance), ensure_ascii=False)


def main() -> int:
    """Write the file and say what is in it."""
    parser = argparse.ArgumentParser(description="Build a batch file from the documentation on this machine.")
    parser.add_argument("-o", "--output", type=Path, default=Path("batch.jsonl"))
    parser.add_argument("--count", type=int, default=DEFAULT_COUNT)
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    chosen = parser.parse_args()
    if chosen.count < 1:
        parser.error("--count must be at least 1")
    lines = list(build(chosen.count, chosen.seed, chosen.model))
    if len(lines) < chosen.count:
        print(f"only {len(lines)} documented things were found on this machine", file=sys.stderr)
    if not lines:
        return 1
    text = "\n".join(lines) + "\n"
    chosen.output.write_text(text, encoding="utf-8")
    print(f"{len(lines)} requests, {len(text.encode()) / 1e6:.1f} MB, in {chosen.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
