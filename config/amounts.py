"""The smallest amount of money that `penstock.toml` and requests may name."""

from decimal import Decimal

SMALLEST_USD = Decimal("1e-9")
"""A nano-dollar: less would be rounded to nothing, and a limit of nothing is not what was asked for."""
