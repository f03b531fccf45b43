"""How a child stands to whoever started it."""

import os
import signal
import sys
from pathlib import Path

from stack.children import end, spawn

SILENT = "import signal; signal.pause()"


def test_a_child_leads_a_group_of_its_own_within_our_session(tmp_path: Path) -> None:
    child = spawn([sys.executable, "-c", SILENT], env=dict(os.environ), log_path=tmp_path / "child.log")
    try:
        assert os.getpgid(child.pid) == child.pid
        assert os.getsid(child.pid) == os.getsid(0)
    finally:
        end(child, stop_signal=signal.SIGTERM, grace_seconds=5)
