"""The bounds of money."""

from decimal import Decimal

SMALLEST_USD = Decimal("1e-9")
"""One nano-dollar: less would round to zero."""

MAX_BUDGETS_OF_A_JOB = 8
"""One admission call reads and writes every counter of a job."""
