"""`python -m cli` is `penstock`, also where the script is not on the path."""

from cli.main import run

run()
