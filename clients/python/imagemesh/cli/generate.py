"""generate: a prompt becomes a picture on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from imagemesh.calls import new_request_id
from imagemesh.cli.command_trace import CommandSpan
from imagemesh.cli.failures import FAILED, Failure, exit_status, one_line, told
from imagemesh.cli.launch import Launch
from imagemesh.cli.output import facts, json_option, money, note, print_message, show
from imagemesh.cli.progress import JobBar, ReviewNote
from imagemesh.cli.session import Session
from imagemesh.cli.spans import JOB_KEY
from imagemesh.cli.wishes import options_of, wishes
from imagemesh.client import GENERATE_SECONDS, Client
from imagemesh.errors import ImagemeshError, JobError, WrongStateError, raise_unless_done
from imagemesh.generation import Options, to_job_options, to_spec
from imagemesh.results import JobResult
from imagemesh.router.v1 import job_pb2, job_service_pb2

CANCEL_SECONDS = 20.0
GRACE_SECONDS = 60.0


@dataclass(frozen=True)
class Order:
    """One call of `generate`. seconds: how long to wait for the job's end."""

    request: job_service_pb2.GenerateImageRequest
    seconds: float
    output: Path | None
    as_json: bool


@click.command()
@click.argument("prompt")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: <job id>.<format> in this folder.")
@wishes
@json_option
@click.pass_context
def generate(context: click.Context, prompt: str, output: Path | None, as_json: bool) -> None:
    """Draw PROMPT and save the picture.

    Uses the mesh that is up, or starts one for this job and stops it afterwards. Ctrl-C cancels the job; a killed
    command leaves it running. A job that moderation gives to a person waits until it is decided, and says so.
    """
    session: Session = context.obj
    order = _order(prompt, options_of(context), output, as_json)
    with _mesh(session, as_json):
        span = CommandSpan("imagemesh generate", None if session.target else session.telemetry)
        with session.client(span.metadata) as client, told():
            context.exit(_run(client, order, span))


def _order(prompt: str, options: Options, output: Path | None, as_json: bool) -> Order:
    try:
        request = job_service_pb2.GenerateImageRequest(
            request_id=new_request_id(), spec=to_spec(prompt, options), options=to_job_options(options)
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if output and not output.absolute().parent.is_dir():
        raise click.UsageError(f"the folder of {output} does not exist")
    seconds = GENERATE_SECONDS if options.deadline is None else options.deadline + GRACE_SECONDS
    return Order(request, seconds, output, as_json)


def _run(client: Client, order: Order, span: CommandSpan) -> int:
    """The exit status. Ends the span whatever happens."""
    job = job_pb2.Job()
    try:
        job = _drawn(client, order)
        raise_unless_done(job)
        files = _save(client.result(job), order)
    except ImagemeshError as error:
        span.end(error.reason or error.code, {JOB_KEY: job.job_id})
        if not isinstance(error, JobError):
            raise
        return _tell_end(error, order.as_json)
    span.end("", {JOB_KEY: job.job_id, "imagemesh.cache_hit": job.cache_hit})
    _tell_success(job, files, order.as_json)
    return 0


def _drawn(client: Client, order: Order) -> job_pb2.Job:
    """The job as it ended, watched with a bar; canceled on Ctrl-C."""
    job = job_pb2.Job()
    with JobBar() as bar:
        tell = ReviewNote()
        try:
            for update in client.generate_stream(order.request, order.seconds):
                bar.show(update)
                if update.HasField("job"):
                    job = update.job
                    tell(job)
        except KeyboardInterrupt:
            bar.close()
            return _cancel(client, order, job)
    return job


def _cancel(client: Client, order: Order, job: job_pb2.Job) -> job_pb2.Job:
    """Cancels and waits for the end. A second Ctrl-C leaves at once."""
    try:
        if not job.job_id:
            request = job_service_pb2.CreateJobRequest(
                request_id=order.request.request_id, spec=order.request.spec, options=order.request.options
            )
            job = client.call(client.jobs.CreateJob, request).job
        note(f"canceling {job.job_id}…")
        job = _canceled(client, job)
        for update in client.watch(job.job_id, CANCEL_SECONDS):
            if update.HasField("job"):
                job = update.job
    except KeyboardInterrupt:
        raise Failure(f"left {job.job_id or 'the job'}; `imagemesh watch` shows its end") from None
    return job


def _canceled(client: Client, job: job_pb2.Job) -> job_pb2.Job:
    try:
        return client.cancel(job.job_id)
    except WrongStateError:
        note("too late to cancel: its pictures are being published")
        return job


def _save(result: JobResult, order: Order) -> Sequence[Path]:
    """One file per picture; several get their number before the ending."""
    files = []
    for picture in result.images:
        first = order.output or Path(f"{result.job_id}.{picture.format or 'png'}")
        numbered = first.with_name(f"{first.stem}-{picture.message.index}{first.suffix}")
        target = numbered if len(result.message.images) > 1 else first
        try:
            files.append(picture.save(target))
        except OSError as error:
            raise Failure(f"{target} cannot be written: {error.strerror}") from error
    return files


def _tell_success(job: job_pb2.Job, files: Sequence[Path], as_json: bool) -> None:
    if as_json:
        print_message(job)
        for file in files:
            note(str(file))
        return
    pictures = [image for image in job.images if image.state == job_pb2.IMAGE_STATE_PUBLISHED]
    for file, image in zip(files, pictures, strict=True):
        seed = f", seed {image.seed}" if image.HasField("seed") else ""
        show(f"[bold]{file}[/]  {image.width}×{image.height} {image.format}{seed}")
    if missing := len(job.images) - len(pictures):
        note(f"{missing} of {len(job.images)} pictures were refused or not delivered; `imagemesh watch {job.job_id}`")
    cost = money(job.cost) or "0"
    show(
        facts(
            ("job", job.job_id),
            ("model", " ".join(filter(None, (_model(job), _provider(job))))),
            ("cost", f"{cost}, served from the cache" if job.cache_hit else cost),
            ("trace", f"imagemesh trace {job.job_id}"),
        )
    )


def _model(job: job_pb2.Job) -> str:
    return job.attempts[-1].model if job.attempts else job.spec.model


def _provider(job: job_pb2.Job) -> str:
    return f"by {job.attempts[-1].provider}" if job.attempts else ""


def _tell_end(error: JobError, as_json: bool) -> int:
    """A job that ended without a picture."""
    if as_json:
        print_message(error.job)
    if error.job.state == job_pb2.JOB_STATE_CANCELED:
        note(f"canceled {error.job.job_id}: nothing was published or charged")
        return FAILED
    note(f"imagemesh: {error.job.job_id}: {one_line(error)}")
    return exit_status(error)


@contextmanager
def _mesh(session: Session, quiet: bool) -> Iterator[None]:
    """The mesh that is there, or one for the time of the block."""
    if session.mesh_there():
        yield
        return
    launch = Launch(session.home, "linger")
    is_up = False
    try:
        with JobBar(quiet) as bar:
            bar.say("starting a mesh for this job")
            for event in launch.until_up():
                bar.say(f"starting a mesh for this job: {event['process'] or event['text']}")
                if event["kind"] == "notice" and not quiet:
                    note(event["text"])
        is_up = True
        launch.drain()
        yield
    finally:
        if is_up and not quiet:
            note("stopping the mesh that was started for this job")
        launch.stop()
