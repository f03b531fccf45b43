"""Runs one suspect job: `python -m workers.upkeep.isolated_job JOB GENERATION`.

At SIGTERM the process hands its job back. Only a killing signal makes its job poison.
"""

import asyncio
import os
import signal
import sys

import structlog

from config.catalogue import load_catalogue
from config.descriptors import BESIDE_CALLS, require_descriptors
from config.logs import configure_logs
from config.metrics import Metrics
from config.settings import Settings, load_settings
from config.watchdog import watched
from schemas.ids import JobId
from schemas.job import Published
from tasks.startup import refusing_settings
from tasks.wiring.work import open_worker_services

log = structlog.get_logger()

HANDED_BACK = os.EX_TEMPFAIL
"""Exit code of a process that handed its job back."""

HAND_BACK_SECONDS = 10.0
"""How long handing back may take before the process is killed."""


async def run_alone(settings: Settings, job_id: JobId, generation: int) -> int:
    """Run the job and return the exit code. Raises CatalogueError and InvalidSetting."""
    loop, work, ending = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event()

    def end() -> None:
        assert work is not None  # noqa: S101 - a coroutine runs in a task
        ending.set()
        work.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        async with (
            watched(settings.watchdog_seconds) as watchdog,
            open_worker_services(settings, load_catalogue(settings.config), os.environ, Metrics()) as services,
        ):
            watchdog.has_started()
            await services.run(Published(job_id=job_id, generation=generation))
    except asyncio.CancelledError:
        if not ending.is_set():
            raise
        log.info("suspect_handed_back", job_id=job_id)
        return HANDED_BACK
    return os.EX_OK


async def started(job_id: JobId, generation: int, most_seconds: float, stopping: asyncio.Event) -> int:
    """Run the job in a child and return its exit status; negative for a killing signal.

    Beyond `most_seconds` the child is killed, because a job handed back would take as long again. Once `stopping` is
    set, the result is HANDED_BACK, never a death.
    """
    arguments = ("-m", "workers.upkeep.isolated_job", job_id, str(generation))
    child = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=asyncio.subprocess.DEVNULL)
    ended, stop = asyncio.create_task(child.wait()), asyncio.create_task(stopping.wait())
    await asyncio.wait((ended, stop), timeout=most_seconds, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if ended.done():
        return ended.result()
    if stopping.is_set():
        child.terminate()
        await asyncio.wait((ended,), timeout=HAND_BACK_SECONDS)
    if not ended.done():
        child.kill()
    status = await ended
    return HANDED_BACK if stopping.is_set() else status


def main() -> int:
    """Run the job of the command line and return the exit code."""
    job_id, generation = sys.argv[1:]
    with refusing_settings("alone"):
        settings = load_settings()
        configure_logs(settings.env)
        require_descriptors(settings, BESIDE_CALLS)
        return asyncio.run(run_alone(settings, JobId(job_id), int(generation)))


if __name__ == "__main__":
    sys.exit(main())
