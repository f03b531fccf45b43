"""`penstock jobs`."""

from typing import Annotated

import typer

from cli.command_group import CommandGroup
from cli.options import DEFAULT_LIMIT, BatchOf, LaneName, Limit, Output, Server
from cli.output import remark, say
from schemas.states import JobState

app = CommandGroup(no_args_is_help=True, help="Look at single jobs; cancel one.")

COLUMNS = ("id", "state", "lane", "model", "custom_id", "batch_id", "tries", "cost_usd", "dead_reason", "created_at")


@app.command("list")
def list_jobs(
    server: Server,
    output: Output,
    *,
    state: Annotated[JobState | None, typer.Option("--state", help="Only those in this state.")] = None,
    lane: LaneName = None,
    batch: BatchOf = None,
    limit: Limit = DEFAULT_LIMIT,
) -> None:
    """List jobs, newest first."""
    api = server.client()
    output.rows(api.rows("jobs", at_most=limit, state=state, lane=lane, batch_id=batch), COLUMNS)


@app.command("show")
def show_job(server: Server, output: Output, *, job_id: str) -> None:
    """Show a job with its attempts."""
    output.resource(server.client().get("jobs", job_id))


@app.command("cancel")
def cancel_job(server: Server, *, job_id: str) -> None:
    """Cancel a job that is not terminal."""
    cancelled = server.client().post("jobs", job_id, "cancel")
    say(str(cancelled.get("id", job_id)))
    remark(f"{job_id} is {cancelled.get('state', 'cancelled')}")
