"""A budget of the memory that requests take, so that many large bodies at once are refused and not run out of it."""

from api.errors import Busy

BODY_WEIGHT = 2
"""A body and the strings that are parsed from it are held at the same time."""
VALUE_BYTES = 128
"""What a parsed value takes beyond its text: an empty object or list 64 to 88, one with an entry about 230."""
DOWNLOAD_BYTES = 2_000_000
"""Of a file that goes out: a chunk of a megabyte, once from the database and once on its way."""
UPLOAD_BYTES = 2_000_000
"""Of a file that comes in: a chunk that is gathered, and the same on its way to the database."""


class MemoryBudget:
    """What all requests of the process take together."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.taken_bytes = 0

    @property
    def free_bytes(self) -> int:
        """What may still be taken."""
        return self._most_bytes - self.taken_bytes


class MemoryShare:
    """What one request takes, until it is answered."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._bytes = 0

    def take(self, size: int) -> None:
        """Take more. Raises Busy, and takes nothing, where the budget has no more."""
        self.check(size)
        self._budget.taken_bytes += size
        self._bytes += size

    def check(self, size: int) -> None:
        """Raises Busy where so much could not be taken now."""
        if size > self._budget.free_bytes:
            raise Busy

    def release(self) -> None:
        """Give everything back."""
        self._budget.taken_bytes -= self._bytes
        self._bytes = 0
