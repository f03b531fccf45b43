"""The smallest amount of money that `penstock.toml` and requests may name."""

from decimal import Decimal

SMALLEST_USD = Decimal("1e-9")
"""One nano-dollar: less would round to zero, and a limit of zero is not what was asked for."""
