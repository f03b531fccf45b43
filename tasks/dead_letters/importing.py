"""Imports dead letters from other installations."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import TypeAlias

import structlog

from schemas.bounds import node_bound
from schemas.errors import InvalidRequest, Unavailable
from schemas.ids import JobId
from tasks.dead_letters.export_format import Letter, Reader, letter_from
from tasks.maintenance.items import reason_of
from tasks.maintenance.slices import Clock, Slice

log = structlog.get_logger()

LETTERS_PER_WRITE = 200
"""Small letters per transaction; a slice limits bytes and values."""

HELD_BYTES = 4_000_000
"""Unchecked lines beyond this are held on disk."""

MOST_LINES = 1_000_000
"""Includes empty lines; larger exports are split by `first_line`."""

MOST_WRONG_LINES = 20
"""Enough to show what wrong lines have in common."""


Store: TypeAlias = Callable[[Sequence[Letter]], Awaitable[list[JobId]]]
"""Stores imported letters; returns those that were not listed before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """Counts good lines, new dead letters, and letters that were here before."""

    checked: int
    imported: int = 0
    known: int = 0


class Imports:
    """Imports all lines of a stream, or none if one is invalid."""

    def __init__(self, store: Store, *, clock: Clock = time.monotonic) -> None:
        self._store, self._clock = store, clock

    async def take(
        self, lines: AsyncIterator[bytes], reader: Reader, now: datetime, *, first_line: int = 1, dry_run: bool = False
    ) -> Imported:
        """Store the dead letter of each line, unless `dry_run`. Safe to repeat.

        Raises InvalidRequest with the numbers of wrong lines, and stores nothing then. A line that cannot be stored
        leaves those before it imported. A discarded letter is listed again.
        """
        with SpooledTemporaryFile(max_size=HELD_BYTES) as spool:
            checked = await self._checked(lines, reader, now, first_line, spool)
            if dry_run:
                return Imported(checked=checked)
            spool.seek(0)
            imported = await self._store_all(spool, reader, now)
        return Imported(checked=checked, imported=imported, known=checked - imported)

    async def _checked(
        self,
        lines: AsyncIterator[bytes],
        reader: Reader,
        now: datetime,
        first_line: int,
        spool: SpooledTemporaryFile[bytes],
    ) -> int:
        """Raises InvalidRequest."""
        number, checked, wrong = first_line - 1, 0, list[tuple[int, InvalidRequest]]()
        turn = Slice(self._clock)
        turn.begin()
        async for line in lines:
            number += 1
            if number - first_line >= MOST_LINES:
                raise InvalidRequest(f"line {number}: an import has at most {MOST_LINES} lines. Nothing was imported.")
            await turn.give_way()
            if not line.strip():
                continue
            turn.use(size_bytes=len(line), nodes=node_bound(line))
            try:
                _letter(line, reader, now)
            except InvalidRequest as error:
                wrong.append((number, error))
            if len(wrong) > MOST_WRONG_LINES:
                break
            checked += 1
            spool.write(b"%d %b\n" % (number, line))
        if wrong:
            raise _refusal(wrong)
        return checked

    async def _store_all(self, spool: Iterable[bytes], reader: Reader, now: datetime) -> int:
        stored, letters, turn = 0, list[tuple[int, Letter]](), Slice(self._clock)
        turn.begin()
        for numbered in spool:
            number, _, line = numbered.partition(b" ")
            turn.use(size_bytes=len(line), nodes=node_bound(line))
            letters.append((int(number), letter_from(line, reader, now)))
            if len(letters) >= LETTERS_PER_WRITE or turn.is_over:
                stored += await self._bring(letters)
                letters.clear()
                await turn.give_way()
        return stored + await self._bring(letters)

    async def _bring(self, letters: Sequence[tuple[int, Letter]]) -> int:
        """Store letters together, else one by one. Raises InvalidRequest."""
        try:
            return len(await self._store([letter for _, letter in letters]))
        except Unavailable:
            raise
        except Exception:
            log.exception("letters_not_stored", lines=len(letters))
        stored = 0
        for number, letter in letters:
            try:
                stored += len(await self._store([letter]))
            except Unavailable:
                raise
            except Exception as error:
                message = f"line {number}: it cannot be stored. {reason_of(error)} The lines before it were imported."
                raise InvalidRequest(message) from error
        return stored


def _letter(line: bytes, reader: Reader, now: datetime) -> Letter:
    try:
        return letter_from(line, reader, now)
    except InvalidRequest:
        raise
    except Exception as error:  # an unforeseen value is an error of its line
        log.exception("letter_unreadable")
        raise InvalidRequest(reason_of(error)) from error


def _refusal(wrong: Sequence[tuple[int, InvalidRequest]]) -> InvalidRequest:
    (number, first), *others = wrong
    also = ", ".join(str(number) for number, _ in others[: MOST_WRONG_LINES - 1])
    more = " and more" if len(wrong) > MOST_WRONG_LINES else ""
    return InvalidRequest(
        f"line {number}: {first.message}{f' Also wrong: {also}{more}.' if also else ''} Nothing was imported.",
        param=first.param,
    )
