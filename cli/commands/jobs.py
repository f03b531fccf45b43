"""`penstock jobs`: look at single jobs, and take one back."""

from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, DEFAULT_LIMIT, AsJson, BatchOf, HomeFolder, LaneName, Limit, Url, open_api
from cli.output import remark, say, show_object, show_rows
from schemas.states import JobState

app = typer.Typer(no_args_is_help=True, help="Look at single jobs; cancel one.")

COLUMNS = ("id", "state", "lane", "model", "custom_id", "batch_id", "tries", "cost_usd", "dead_reason", "created_at")


@app.command("list")
def list_jobs(
    ctx: typer.Context,
    *,
    state: Annotated[JobState | None, typer.Option("--state", help="Only those in this state.")] = None,
    lane: LaneName = None,
    batch: BatchOf = None,
    limit: Limit = DEFAULT_LIMIT,
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """List jobs, newest first."""
    api = open_api(ctx, url, home)
    show_rows(api.rows("jobs", at_most=limit, state=state, lane=lane, batch_id=batch), COLUMNS, as_json=as_json)


@app.command("show")
def show_job(
    ctx: typer.Context, *, job_id: str, as_json: AsJson = False, url: Url = None, home: HomeFolder = DEFAULT_HOME
) -> None:
    """Show one job with all that is known of it."""
    show_object(open_api(ctx, url, home).get("jobs", job_id), as_json=as_json)


@app.command("cancel")
def cancel_job(ctx: typer.Context, *, job_id: str, url: Url = None, home: HomeFolder = DEFAULT_HOME) -> None:
    """Cancel a job that is not at rest yet."""
    cancelled = open_api(ctx, url, home).post("jobs", job_id, "cancel")
    say(str(cancelled.get("id", job_id)))
    remark(f"{job_id} is {cancelled.get('state', 'cancelled')}")
