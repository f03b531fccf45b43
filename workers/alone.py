"""`python -m workers.alone JOB GENERATION`: run one suspect in a process of its own, and end."""

import asyncio
import os
import sys

from config.catalogue import CatalogueError, load_catalogue
from config.logs import configure_logs
from config.metrics import Metrics
from config.settings import SettingError, Settings, load_settings
from schemas.errors import InvalidSetting
from schemas.ids import JobId
from tasks.publish import Published
from tasks.wiring.work import open_worker_house

REFUSED_SETTING = 6


async def run_alone(settings: Settings, job_id: JobId, generation: int) -> None:
    """Bring the job one lease further. Raises CatalogueError and InvalidSetting before anything is done."""
    async with open_worker_house(settings, load_catalogue(settings.config), os.environ, Metrics()) as house:
        await house.run(Published(job_id=job_id, generation=generation))


async def started(job_id: JobId, generation: int, most_seconds: float) -> int:
    """Run it in a child and return the child's exit status; a child that takes too long is killed."""
    words = ("-m", "workers.alone", job_id, str(generation))
    child = await asyncio.create_subprocess_exec(sys.executable, *words, stdin=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(most_seconds):
            return await child.wait()
    except TimeoutError:
        child.kill()
        return await child.wait()


def main() -> int:
    """Read the command line; returns the exit code."""
    job_id, generation = sys.argv[1:]
    try:
        settings = load_settings()
        configure_logs(settings.env)
        asyncio.run(run_alone(settings, JobId(job_id), int(generation)))
    except (SettingError, CatalogueError, InvalidSetting) as error:
        print(f"alone: {error}", file=sys.stderr)  # noqa: T201 - the one line of a refused start
        return REFUSED_SETTING
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
