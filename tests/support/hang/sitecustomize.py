"""Lets a test hang a real process: SIGUSR2 starts a match that never ends and holds the interpreter's lock.

On the PYTHONPATH of the processes of a trial; the product knows nothing of it. A paused process is another fault: it
has no thread that runs, and comes back by itself.
"""

import re
import signal

ENDLESS = re.compile("(a+)+$")


def hang(*_: object) -> None:
    ENDLESS.match("a" * 200 + "b")


signal.signal(signal.SIGUSR2, hang)
