"""Hanging real processes from outside; see `hang/sitecustomize.py`."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

HANG_SIGNAL = signal.SIGUSR2
_FOLDER = Path(__file__).parent / "hang"
HANG_MODULE = "sitecustomize.py"
"""Stands in the stack of a process that was hung."""


def with_hang(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment whose Python processes can be hung."""
    paths = [str(_FOLDER), *filter(None, [env.get("PYTHONPATH")])]
    return {**env, "PYTHONPATH": os.pathsep.join(paths)}


def hang(pid: int) -> None:
    """Make a process hold its interpreter's lock for ever."""
    os.kill(pid, HANG_SIGNAL)
