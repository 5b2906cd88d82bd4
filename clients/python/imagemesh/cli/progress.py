"""The progress of one job, as a bar on standard error; nothing where that is no terminal."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Eta

from imagemesh.cli.output import note, plain
from imagemesh.router.v1 import job_pb2, job_service_pb2

Update = job_service_pb2.GenerateImageResponse | job_service_pb2.WatchJobResponse


class JobBar:
    """State, bar, elapsed time and the time still to go. `close` may be called twice."""

    def __init__(self, quiet: bool = False) -> None:
        console = Console(file=sys.stderr)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            Eta(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=None)
        self._progress.start()

    def __enter__(self) -> JobBar:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def say(self, text: str) -> None:
        """What is being done now."""
        self._progress.update(self._task, description=text)

    def show(self, update: Update) -> None:
        """One update of the job's stream."""
        if update.HasField("job"):
            self.say(describe(update.job))
        else:
            self._steps(update.progress)

    def close(self) -> None:
        """Takes the bar away."""
        self._progress.stop()

    def _steps(self, progress: job_pb2.JobProgress) -> None:
        if progress.steps:
            text = f"drawing, step {progress.step} of {progress.steps}"
            self._progress.update(self._task, description=text, total=progress.steps, completed=progress.step)


class ReviewNote:
    """Says once, also where there is no bar, that a job waits for a person: nothing moves until that person decides."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, job: job_pb2.Job) -> None:
        """Looks at the job as it stands now."""
        if job.waiting_for != job_pb2.WAITING_FOR_REVIEW or self._told:
            return
        self._told = True
        note(
            f"{job.job_id} waits for a person: moderation wants it reviewed. `imagemesh reviews next` decides it, in"
            " another terminal and with a reviewer's key; undecided, it is blocked after 23 hours."
        )


def describe(job: job_pb2.Job) -> str:
    """The job's state for people, with what it waits for."""
    state = plain(job_pb2.JobState.Name(job.state), "JOB_STATE_")
    waiting = plain(job_pb2.WaitingFor.Name(job.waiting_for), "WAITING_FOR_")
    if waiting:
        return f"waiting for {waiting}"
    if job.state == job_pb2.JOB_STATE_QUEUED and job.queue.position:
        return f"queued behind {job.queue.position}"
    return state
