"""jobs, watch, cancel."""

from __future__ import annotations

import click

from imagemesh.cli.failures import Failure, exit_status, one_line, told
from imagemesh.cli.output import facts, json_option, moment, money, note, plain, print_message, show, table
from imagemesh.cli.progress import JobBar, ReviewNote, describe
from imagemesh.cli.session import Session
from imagemesh.client import Client
from imagemesh.errors import JobError, raise_unless_done
from imagemesh.router.v1 import job_pb2, job_service_pb2

STATES = [name.removeprefix("JOB_STATE_").lower() for name in job_pb2.JobState.keys()[1:]]
WATCH_SECONDS = 24 * 3600.0


@click.command()
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only in these states.")
@click.option("--user", default="", help="Only of this end user.")
@click.option("-n", "--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="Jobs of one page.")
@click.option("--page-token", default="", help="Go on after an earlier page.")
@json_option
@click.pass_context
def jobs(context: click.Context, /, as_json: bool, **given: object) -> None:
    """List jobs, newest first."""
    request = _list_request(context)
    with context.obj.client() as client, told():
        answer = client.call(client.jobs.ListJobs, request)
    if as_json:
        print_message(answer)
        return
    show(table("job", "state", "created", "model", "pictures", "cost", rows=[_row(job) for job in answer.jobs]))
    if answer.next_page_token:
        note(f"more: --page-token {answer.next_page_token}")


@click.command()
@click.argument("job_id", metavar="JOB")
@json_option
@click.pass_obj
def watch(session: Session, job_id: str, as_json: bool) -> None:
    """Follow JOB until it has ended; its exit status is the job's."""
    with session.client() as client, told():
        job = _followed(client, job_id, as_json)
        try:
            raise_unless_done(job)
        except JobError as error:
            raise Failure(f"{job_id}: {one_line(error)}", exit_status(error)) from error
    if not as_json:
        show_job(job)


@click.command()
@click.argument("job_id", metavar="JOB")
@json_option
@click.pass_obj
def cancel(session: Session, job_id: str, as_json: bool) -> None:
    """Cancel JOB."""
    with session.client() as client, told():
        job = client.cancel(job_id)
    if as_json:
        print_message(job_service_pb2.CancelJobResponse(job=job))
    elif job.state == job_pb2.JOB_STATE_CANCELED:
        click.echo(f"canceled {job_id}: nothing was published or charged")
    else:
        click.echo(f"asked {job_id} to stop; `imagemesh watch {job_id}` shows its end")


def show_job(job: job_pb2.Job) -> None:
    """A job in full, for people."""
    show(
        facts(
            ("job", job.job_id),
            ("state", describe(job)),
            ("created", moment(job.create_time)),
            ("ended", moment(job.end_time)),
            ("cost", money(job.cost)),
            ("cache", "served from the cache" if job.cache_hit else ""),
            ("trace", job.trace_id),
        )
    )
    rows = [_picture_row(image) for image in job.images]
    show(table("picture", "state", "size", "seed", "verdict", "address", rows=rows))


def _followed(client: Client, job_id: str, as_json: bool) -> job_pb2.Job:
    job = job_pb2.Job()
    with JobBar(quiet=as_json) as bar:
        tell = ReviewNote()
        for update in client.watch(job_id, WATCH_SECONDS):
            bar.show(update)
            if as_json:
                print_message(update)
            if update.HasField("job"):
                job = update.job
                tell(job)
    return job


def _list_request(context: click.Context) -> job_service_pb2.ListJobsRequest:
    given = context.params
    states = [job_pb2.JobState.Value(f"JOB_STATE_{state.upper()}") for state in given["states"]]
    return job_service_pb2.ListJobsRequest(
        filter=job_service_pb2.JobFilter(states=states, user=given["user"]),
        page_size=given["limit"],
        page_token=given["page_token"],
    )


def _row(job: job_pb2.Job) -> tuple[str, ...]:
    published = sum(image.state == job_pb2.IMAGE_STATE_PUBLISHED for image in job.images)
    cost = f"{money(job.cost)} (cache)" if job.cache_hit else money(job.cost)
    return (
        job.job_id,
        describe(job),
        moment(job.create_time),
        job.spec.model,
        f"{published}/{len(job.images) or job.spec.count}",
        cost,
    )


def _picture_row(image: job_pb2.JobImage) -> tuple[str, ...]:
    return (
        str(image.index),
        plain(job_pb2.ImageState.Name(image.state), "IMAGE_STATE_"),
        f"{image.width}×{image.height}" if image.width else "",
        str(image.seed) if image.HasField("seed") else "",
        image.verdict.verdict_id,
        image.url,
    )
