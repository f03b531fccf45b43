"""Replays dead letters in rounds.

A round is one fenced transaction, so a killed process has moved whole rounds. Dispatch publishes the jobs.
"""

import time
from collections.abc import Callable, Sequence

import structlog

from schemas.errors import ReplayFailed, Unavailable
from schemas.ids import JobId, ReplayId
from schemas.replay import DeadLetters, NewReplay, Refused, Replay, ReplayedLetter, ReplayState
from schemas.states import JobState
from storage.dead_letters.replays import ReplayTable
from storage.dead_letters.writes import LetterTable
from tasks.dead_letters.patch import patched
from tasks.maintenance.items import Isolation, reason_of
from tasks.maintenance.slices import Rotation

log = structlog.get_logger()

MOST_PER_ROUND = 500
"""Letters per transaction with unchanged bodies: a few hundredths of a second."""

MOST_BODIES_PER_ROUND = 100
"""Letters per transaction with changed bodies; fewer if they are large."""

MOST_OF_TENANT = 8
"""Replays of one tenant per round, so that other tenants need not wait for all of them."""


class Replays:
    """Moves the dead letters of replays."""

    def __init__(self, rows: ReplayTable, letters: LetterTable, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows = rows
        self._letters = letters
        self._isolation = Isolation("replay", end=self._stop, clock=clock)
        self._rotation = Rotation(MOST_OF_TENANT)

    async def replay_now(self, replay: NewReplay) -> list[JobId]:
        """Store the replay and run it here; returns the moved jobs. Raises ReplayFailed.

        Upkeep continues it after a crash. A replay without letters is deleted.
        """
        current: Replay | None = await self.rows.create(replay)
        while current is not None and current.state.under_way:
            await self._advance_now(current)
            current = await self.rows.find(replay.id, None)
        moved = await self.rows.replayed(replay.id)
        if not moved:
            await self.rows.forget_empty(replay.id)
        return moved

    async def advance_all(self) -> int:
        """Run one round of replays, fair by tenant; returns the number of changes.

        A replay that keeps failing is stopped; its owner may resume it.
        """
        under_way = await self.rows.under_way()
        chosen = self._rotation.chosen({str(replay_id): owner for replay_id, owner in under_way.items()})
        return await self._isolation.each(chosen, str, self._advance_named)

    async def _advance_named(self, name: str) -> int:
        replay = await self.rows.find(ReplayId(name), None)
        return 0 if replay is None or not replay.state.under_way else await self.advance(replay)

    async def _advance_now(self, replay: Replay) -> None:
        try:
            await self.advance(replay)
        except Unavailable:
            raise
        except Exception as error:
            log.exception("replay_failed", replay_id=replay.id)
            await self._stop(replay.id, error)
            raise ReplayFailed(f"The replay was stopped. {reason_of(error)}") from error

    async def _stop(self, name: str, error: Exception) -> None:
        await self.rows.stop(ReplayId(name), reason_of(error))

    async def advance(self, replay: Replay) -> int:
        """Judge the canaries, or move the next letters; returns how many changed.

        Does nothing when another process has done it.
        """
        if replay.state is ReplayState.JUDGING:
            return await self._judge(replay)
        most = _round_size(replay)
        if most < 1:
            return 0
        letters = await self.rows.next(replay, most)
        if not letters:
            return await self._run_dry(replay)
        results = [_patched(letter, replay) for letter in letters]
        try:
            moved = await self._move(replay, results)
        except Unavailable:
            raise
        except Exception:  # one letter's value: that letter stays dead with the reason
            log.exception("replay_round_failed", replay_id=replay.id, letters=len(letters))
            return await self._move_apart(replay.id, results)
        return 0 if moved is None else len(letters)

    async def _move(self, replay: Replay, results: Sequence[ReplayedLetter | Refused]) -> Sequence[JobId] | None:
        patched_jobs = [result for result in results if isinstance(result, ReplayedLetter)]
        refused = [result for result in results if isinstance(result, Refused)]
        return await self.rows.move(replay, patched_jobs, refused)

    async def _move_apart(self, replay_id: ReplayId, results: Sequence[ReplayedLetter | Refused]) -> int:
        """Move the round letter by letter, each under the replay's current version."""
        for number, result in enumerate(results):
            replay = await self.rows.find(replay_id, None)
            if replay is None or replay.state not in {ReplayState.CANARY, ReplayState.RUNNING}:
                return number
            try:
                await self._move(replay, [result])
            except Unavailable:
                raise
            except Exception as error:
                letter = result.letter if isinstance(result, Refused) else result
                log.exception("letter_cannot_be_replayed", replay_id=replay.id, job_id=letter.id)
                why = f"It cannot be queued. {reason_of(error)}"
                await self._move(replay, [Refused(letter=letter, why=why)])
        return len(results)

    async def discard(self, which: DeadLetters) -> list[JobId]:
        """Discard all of these letters; returns their ids."""
        moved: list[JobId] = []
        while True:
            part = await self._letters.discard(which, most=MOST_PER_ROUND)
            moved += part
            if len(part) < MOST_PER_ROUND:
                return moved

    async def _run_dry(self, replay: Replay) -> int:
        """Search again for letters that became visible late, then enter the next state."""
        if replay.cursor_at is not None:
            return int(await self.rows.enter(replay, replay.state))
        if replay.state is ReplayState.CANARY and replay.replayed:
            return int(await self.rows.enter(replay, ReplayState.JUDGING))
        entered = await self.rows.enter(replay, ReplayState.COMPLETED)
        if entered:
            log.info("replay_completed", replay_id=replay.id, replayed=replay.replayed, refused=replay.refused)
        return int(entered)

    async def _judge(self, replay: Replay) -> int:
        states = (await self.rows.outcomes(replay.id)).canaries
        if any(not JobState(state).at_rest for state in states):
            return 0
        completed, sent = states.get(JobState.COMPLETED, 0), sum(states.values())
        detail = f"{completed} of {sent} canaries completed; {replay.threshold:g} of them were asked for"
        good = completed >= replay.threshold * sent
        log.info("replay_judged", replay_id=replay.id, completed=completed, sent=sent, good=good)
        return int(await self.rows.enter(replay, ReplayState.RUNNING if good else ReplayState.STOPPED, detail))


def _round_size(replay: Replay) -> int:
    most = min(replay.allowed, MOST_BODIES_PER_ROUND if replay.patch.changes_bodies else MOST_PER_ROUND)
    return min(most, replay.canary - replay.replayed) if replay.state is ReplayState.CANARY else most


def _patched(letter: ReplayedLetter, replay: Replay) -> ReplayedLetter | Refused:
    try:
        return patched(letter, replay.patch)
    except Exception as error:  # a body that an older version accepted: that letter stays dead with the reason
        log.exception("letter_cannot_be_replayed", replay_id=replay.id, job_id=letter.id)
        return Refused(letter=letter, why=f"It cannot be changed. {reason_of(error)}")
