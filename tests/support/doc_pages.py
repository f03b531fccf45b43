"""Runs the fenced blocks of a page of the documentation, as a reader in a terminal does.

    sh       is run, in one shell for the whole page, and must end with 0
    python   is a file; its first line is a comment with its name
    text     is what the block before it prints, on stdout and stderr

In what a block prints, `…` stands for anything within a line, a line of `…` alone for any number of lines, and any
spaces and tabs count as one space. Blocks of other kinds are only read.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Self

from stack.children import kill_group

BLOCK_SECONDS = 120.0
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"^# (\w+\.py)$", re.MULTILINE)
ANYTHING = "…"
END = "--- end of the block:"


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block of a page."""

    kind: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    return [Block(kind=kind, text=text) for kind, text in FENCE.findall(page.read_text(encoding="utf-8"))]


def run_page(page: Path, folder: Path, env: Mapping[str, str]) -> None:
    """Run a page's blocks in this folder; the first that fails or prints something else is an AssertionError."""
    printed = ""
    with Shell(folder, env) as shell:
        for block in blocks_of(page):
            match block.kind:
                case "sh":
                    printed = shell.run(block.text)
                case "python":
                    write_file(folder, block.text)
                case "text":
                    assert prints(block.text, printed), f"{page.name} shows\n{block.text}\nbut this came\n{printed}"


def write_file(folder: Path, text: str) -> None:
    named = FILE_NAME.match(text)
    assert named, f"the first line must be a comment with the file's name:\n{text}"
    (folder / named[1]).write_text(text, encoding="utf-8")


def prints(shown: str, printed: str) -> bool:
    """Whether this is what a page shows."""
    return re.fullmatch("".join(_patterns(shown)), "".join(f"{line}\n" for line in _lines(printed))) is not None


def _patterns(shown: str) -> Iterator[str]:
    for line in _lines(shown):
        if line == ANYTHING:
            yield r"(?:.*\n)*?"
        else:
            yield ".*".join(re.escape(part) for part in line.split(ANYTHING)) + r"\n"


def _lines(text: str) -> list[str]:
    """Its lines without what depends on the width of a column."""
    return [" ".join(line.split()) for line in text.strip().splitlines()]


class Shell:
    """One `sh` that runs block after block, so that variables stay; what its commands start ends with it."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh"],
            cwd=folder,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, block: str) -> str:
        """Run it and return what it printed. Raises AssertionError where it fails or takes too long."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        # a command that reads its input must not read the rest of the script
        stdin.write(f"{{\n{block}\n}} </dev/null\nprintf '\\n{END} %s\\n' $?\n")
        stdin.flush()
        printed, status = list[str](), ""
        timer = Timer(BLOCK_SECONDS, kill_group, [self._process.pid])
        timer.start()
        for line in stdout:
            if line.startswith(END):
                status = line.removeprefix(END).strip()
                break
            printed.append(line)
        timer.cancel()
        text = "".join(printed)
        assert status == "0", f"this block ended with {status or 'nothing'}:\n{block}\nIt printed:\n{text}"
        return text

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        kill_group(self._process.pid)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
