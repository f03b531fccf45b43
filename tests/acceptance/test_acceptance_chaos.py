"""P2 and P3 under fire: a short fault campaign. `scripts/chaos` is the long one, with this as its seed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.simulator_process import CHECKOUT

CAMPAIGN_SECONDS = 300.0


@pytest.mark.campaign
def test_nothing_is_lost_and_nothing_done_twice_under_random_faults(tmp_path: Path) -> None:
    words = ["--seed", "1", "--jobs", "700", "--seconds", "25", "--keep", str(tmp_path)]

    done = subprocess.run(  # a process of its own, because only a main thread may start the stack's processes
        [sys.executable, "-m", "tests.chaos.campaign", *words],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=CAMPAIGN_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
