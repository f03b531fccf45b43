"""The bounds of money: the smallest amount that may be named, and how many budgets may count one job."""

from decimal import Decimal

SMALLEST_USD = Decimal("1e-9")
"""One nano-dollar: less would round to zero, and a limit of zero is not what was asked for."""

MAX_BUDGETS_OF_A_JOB = 8
"""The one admission call reads and writes every counter of a job."""
