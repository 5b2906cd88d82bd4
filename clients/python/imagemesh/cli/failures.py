"""How a failure is told: one line, what to do about it, and the exit status.

0 done, 1 failed, 2 usage, 3 blocked by moderation, 4 budget or limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from imagemesh.errors import ImagemeshError, JobBlockedError, JobError

FAILED, USAGE, BLOCKED, LIMIT = 1, 2, 3, 4

EXIT_BY_REASON = {
    "MODEL_NOT_FOUND": USAGE,
    "MODERATION_BLOCKED": BLOCKED,
    "PROVIDER_REFUSED": BLOCKED,
    "CONTENT_BLOCKED": BLOCKED,
    "REVIEW_EXPIRED": BLOCKED,
    "BUDGET_EXCEEDED": LIMIT,
    "MAX_COST_EXCEEDED": LIMIT,
    "RATE_LIMITED": LIMIT,
    "QUEUE_FULL": LIMIT,
    "ENGINE_FULL": LIMIT,
}
EXIT_BY_CODE = {"INVALID_ARGUMENT": USAGE, "UNIMPLEMENTED": USAGE, "RESOURCE_EXHAUSTED": LIMIT}
ADVICE_BY_REASON = {
    "KEY_MISSING": "give --api-key or set IMAGEMESH_API_KEY",
    "KEY_INVALID": "check --api-key or IMAGEMESH_API_KEY; `imagemesh keys create` makes a new one",
    "ROLE_NOT_ALLOWED": "use a key with the role that this needs",
    "MODEL_NOT_FOUND": "`imagemesh models` lists what there is",
    "MAX_COST_EXCEEDED": "`imagemesh quote` shows the prices; raise --max-cost",
    "BUDGET_EXCEEDED": "`imagemesh usage` shows what is left",
    "JOB_NOT_FOUND": "`imagemesh jobs` lists yours",
    "ATTEMPT_OUTCOME_UNKNOWN": "the provider may have drawn it; `imagemesh jobs` and its invoice will tell",
    "WORKER_LOST": "`imagemesh logs router-worker` says more",
    "INTERNAL": "`imagemesh logs` says more",
    "ENGINE_FAILED": "`imagemesh logs inference` says more",
    "ALL_CANDIDATES_FAILED": "`imagemesh providers` shows their health",
    "NO_CANDIDATE": "`imagemesh models` shows what each model can do",
}
ADVICE_BY_CODE = {
    "UNAVAILABLE": "`imagemesh status` shows what runs, `imagemesh up` starts a mesh",
    "DEADLINE_EXCEEDED": "the job goes on; `imagemesh watch` follows it",
}
JOB_ADVICE_BY_CODE = {"DEADLINE_EXCEEDED": "give it a longer --timeout"}


class Failure(click.ClickException):
    """One line on standard error and an exit status."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it on the class and reads it from self

    def show(self, file: IO[Any] | None = None) -> None:
        """Writes the line."""
        click.echo(f"imagemesh: {self.format_message()}", err=True, file=file)


def exit_status(error: ImagemeshError) -> int:
    """The exit status that stands for the error."""
    if isinstance(error, JobBlockedError):
        return BLOCKED
    by_code = FAILED if isinstance(error, JobError) else EXIT_BY_CODE.get(error.code, FAILED)
    return EXIT_BY_REASON.get(error.reason, by_code)


def one_line(error: ImagemeshError) -> str:
    """The mesh's text, each wrong field, the reason, and what to do."""
    parts = [" ".join(error.message.split()).rstrip(".") or error.code]
    parts += [f"{v.field}: {v.description}" for v in error.violations if v.field not in error.message]
    text = "; ".join(parts)
    if error.reason:
        text += f" [{error.reason}]"
    by_code = JOB_ADVICE_BY_CODE if isinstance(error, JobError) else ADVICE_BY_CODE
    advice = ADVICE_BY_REASON.get(error.reason) or by_code.get(error.code, "")
    if error.retry_after:
        advice = f"try again in {error.retry_after:.0f} s"
    return f"{text}: {advice}" if advice else text


@contextmanager
def told() -> Iterator[None]:
    """Inside it, an error of the client becomes a `Failure`."""
    try:
        yield
    except ImagemeshError as error:
        raise Failure(one_line(error), exit_status(error)) from error
