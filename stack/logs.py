"""Follows and bounds the children's logs, to which they append directly."""

import shutil
from collections.abc import Mapping
from pathlib import Path

KEEP_BYTES = 64 * 1024 * 1024
READ_BYTES = 1024 * 1024


class Tails:
    """Follows several logs from their present ends."""

    def __init__(self, logs: Mapping[str, Path]) -> None:
        self._logs = dict(logs)
        self._offsets = {name: _size(path) for name, path in logs.items()}
        self._width = max((len(name) for name in logs), default=0)

    def fresh_lines(self) -> list[str]:
        """Return the complete lines added since the last call, each as `name line`."""
        return [f"{name:<{self._width}} | {line}" for name in self._logs for line in self._added(name)]

    def _added(self, name: str) -> list[str]:
        path, offset = self._logs[name], self._offsets[name]
        size = _size(path)
        if size < offset:  # the log was truncated
            offset = 0
        if size == offset:
            return []
        with path.open("rb") as log:
            log.seek(offset)
            text = log.read(READ_BYTES)
        complete = text.rfind(b"\n") + 1
        if complete == 0 and len(text) == READ_BYTES:
            complete = len(text)
        self._offsets[name] = offset + complete
        return text[:complete].decode("utf-8", errors="replace").splitlines()


def bound(path: Path, *, keep_bytes: int = KEEP_BYTES) -> None:
    """Move a long log to `NAME.1`; its writer continues in the emptied file."""
    if _size(path) > keep_bytes:
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        with path.open("r+b") as log:
            log.truncate(0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
