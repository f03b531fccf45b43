"""`python -m cli` is `penstock`."""

from cli.main import run

run()
