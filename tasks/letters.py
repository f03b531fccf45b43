"""Dead letters in and out of the house: as jobs to be priced, and as lines from elsewhere."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schemas.ids import JobId
from schemas.job import Job, NewJob
from schemas.replay import DeadLetters
from schemas.states import JobState
from storage.dead_letters import WholeLetter
from storage.rows import contract_from
from tasks.letter_lines import Letter, Reader, letter_from

LETTERS_PER_WRITE = 200
"""Letters stored in one transaction: what was stored before a bad line stays, and the next import skips it."""


class LetterReads(Protocol):
    """Dead letters as they are stored (`storage.dead_letters`)."""

    async def count(self, which: DeadLetters) -> int:
        """How many there are."""

    def whole(self, which: DeadLetters) -> AsyncIterator[WholeLetter]:
        """Each of them with its request."""


class LetterRows(Protocol):
    """Where letters from elsewhere are stored (`storage.letters`)."""

    async def bring(self, letters: Sequence[tuple[NewJob, str, str | None]]) -> list[JobId]:
        """Store them; returns those that were not here before."""


class StoredLetters:
    """`tasks.replay_price.Letters` over Postgres."""

    def __init__(self, reads: LetterReads) -> None:
        self._reads = reads
        self.count = reads.count

    async def jobs(self, which: DeadLetters, most: int) -> AsyncIterator[Job]:
        """The first of them as the jobs that they were."""
        seen = 0
        async for whole in self._reads.whole(which):
            if seen == most:
                return
            seen += 1
            yield _job(whole)


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """How many lines became letters, and how many were here before."""

    imported: int
    known: int


class Imports:
    """Takes letters in."""

    def __init__(self, rows: LetterRows) -> None:
        self._rows = rows

    async def take(self, lines: AsyncIterator[bytes], reader: Reader, now: datetime) -> Imported:
        """Store the letter of each line; empty lines are nothing. Raises InvalidRequest with the line that is wrong.

        Safe to call again with the same lines: a job that is here already is left as it is.
        """
        imported, seen, number, held = 0, 0, 0, list[Letter]()
        async for line in lines:
            number += 1
            if line.strip():
                seen += 1
                held.append(letter_from(line, number, reader, now))
            if len(held) == LETTERS_PER_WRITE:
                imported += await self._store(held)
                held = []
        imported += await self._store(held)
        return Imported(imported=imported, known=seen - imported)

    async def _store(self, letters: Sequence[Letter]) -> int:
        return len(await self._rows.bring([(one.job, one.reason, one.message) for one in letters]))


def _job(whole: WholeLetter) -> Job:
    letter = whole.letter
    return Job(
        id=letter.id,
        tenant_id=letter.tenant_id,
        lane=letter.lane,
        model=letter.model,
        body=whole.body,
        request_digest="",
        expires_at=letter.rested_at,
        endpoint=whole.endpoint,
        contract=contract_from(whole.contract),
        batch_id=letter.batch_id,
        custom_id=letter.custom_id,
        user=whole.user,
        max_tries=whole.max_tries,
        max_reprompts=whole.max_reprompts,
        max_cost_nano_usd=whole.max_cost_nano_usd,
        state=JobState.DEAD,
        generation=0,
        fence=0,
        tries=letter.tries,
        created_at=letter.created_at,
        spent_nano_usd=letter.spent_nano_usd,
    )
