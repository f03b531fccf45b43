"""What is kept from the start is kept once."""

import subprocess
import sys

TWICE = """
import gc
from config.memory import keep_what_started
keep_what_started()
kept, later = gc.get_freeze_count(), [[] for _ in range(1000)]
keep_what_started()
print(kept > 1000, gc.get_freeze_count() == kept)
"""


def test_what_came_after_the_start_is_collected_as_ever() -> None:
    told = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", "True"]
