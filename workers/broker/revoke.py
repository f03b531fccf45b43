"""Extends Celery's `revoke` to cancel the jobs of the task ids.

`completions.complete` ends early, so a later revoke finds its job only by the stored delivery. Every worker process
tries to cancel it.
"""

from collections.abc import Sequence
from typing import Any

import structlog
from celery.worker.control import control_command
from celery.worker.control import revoke as celery_revoke

from schemas.errors import Unavailable
from workers.broker.worker_app import WorkerApp

log = structlog.get_logger()


@control_command(name="revoke", variadic="task_id", signature="[id1 [id2 [... [idN]]]]")  # type: ignore[untyped-decorator]  # Celery ships no types
def revoke(state: Any, task_id: str | Sequence[str], **options: Any) -> Any:  # noqa: ANN401 - Celery's
    """Revoke as Celery does and cancel the tasks' jobs. Main thread."""
    task_ids = [task_id] if isinstance(task_id, str) else list(task_id)
    state.app.lifespan.soon(_cancel(state.app, task_ids))
    return celery_revoke(state, task_ids, **options)


async def _cancel(app: WorkerApp, task_ids: Sequence[str]) -> None:
    try:
        cancelled = await app.services.cancel(task_ids)
    except Unavailable as error:
        log.warning("revoke_not_done", tasks=len(task_ids), reason=error.message)
        return
    if cancelled:
        log.info("jobs_revoked", jobs=cancelled)
