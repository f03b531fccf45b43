"""Runs `python -m workers.upkeep`."""

from workers.upkeep.process import main

if __name__ == "__main__":
    main()
