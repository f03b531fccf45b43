"""Runs `python -m workers.upkeep`."""

import sys

from workers.upkeep.process import main

if __name__ == "__main__":
    sys.exit(main())
