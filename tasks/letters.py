"""Dead letters in and out of the house: as jobs to be priced, and as lines from elsewhere."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from tempfile import SpooledTemporaryFile
from typing import Protocol

from schemas.errors import InvalidRequest
from schemas.ids import JobId
from schemas.job import Job, NewJob
from schemas.replay import DeadLetters
from schemas.states import JobState
from storage.dead_letters import WholeLetter
from storage.rows import contract_from
from tasks.letter_lines import Letter, Reader, letter_from

LETTERS_PER_WRITE = 200
"""Letters stored in one transaction: where one is killed in the middle, the next import goes on from there."""

HELD_BYTES = 4_000_000
"""Lines that wait in memory until the last of them is known to be good; more of them wait on the disk."""

MOST_WRONG_LINES = 20
"""Wrong lines named in one refusal: enough to see what they have in common."""


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
    """How many lines were good, how many of them became letters, and how many were here before."""

    checked: int
    imported: int = 0
    known: int = 0


class Imports:
    """Takes letters in: all of a stream or, where one line is wrong, none."""

    def __init__(self, rows: LetterRows) -> None:
        self._rows = rows

    async def take(
        self, lines: AsyncIterator[bytes], reader: Reader, now: datetime, *, first_line: int = 1, dry_run: bool = False
    ) -> Imported:
        """Store the letter of each line; empty lines are nothing, and a dry run stores nothing.

        Lines are numbered from `first_line`. Raises InvalidRequest with the numbers of those that are wrong; nothing
        is stored then. Safe to call again with the same lines: a letter that is here already is left as it is.
        """
        with SpooledTemporaryFile(max_size=HELD_BYTES) as kept:
            checked = await _checked(lines, reader, now, first_line, kept)
            if dry_run:
                return Imported(checked=checked)
            kept.seek(0)
            imported = 0
            for letters in _in_rounds(kept, reader, now):
                imported += len(await self._rows.bring([(one.job, one.reason, one.message) for one in letters]))
        return Imported(checked=checked, imported=imported, known=checked - imported)


async def _checked(
    lines: AsyncIterator[bytes], reader: Reader, now: datetime, first_line: int, kept: SpooledTemporaryFile[bytes]
) -> int:
    """Keep every line and return how many there are. Raises InvalidRequest at the end, with all that is wrong."""
    number, checked, wrong = first_line - 1, 0, list[tuple[int, InvalidRequest]]()
    async for line in lines:
        number += 1
        if not line.strip():
            continue
        try:
            letter_from(line, reader, now)
        except InvalidRequest as error:
            wrong.append((number, error))
        if len(wrong) > MOST_WRONG_LINES:
            break
        checked += 1
        kept.write(line + b"\n")
    if wrong:
        raise _refusal(wrong)
    return checked


def _refusal(wrong: Sequence[tuple[int, InvalidRequest]]) -> InvalidRequest:
    (number, first), *others = wrong
    also = ", ".join(str(number) for number, _ in others[: MOST_WRONG_LINES - 1])
    more = " and more" if len(wrong) > MOST_WRONG_LINES else ""
    return InvalidRequest(
        f"line {number}: {first.message}{f' Also wrong: {also}{more}.' if also else ''} Nothing was imported.",
        param=first.param,
    )


def _in_rounds(lines: Iterable[bytes], reader: Reader, now: datetime) -> Iterator[list[Letter]]:
    letters = (letter_from(line, reader, now) for line in lines)
    while some := list(islice(letters, LETTERS_PER_WRITE)):
        yield some


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
        prompt=letter.prompt,
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
