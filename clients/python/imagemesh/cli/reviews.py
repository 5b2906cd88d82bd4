"""reviews next, list, claim, release, show, decide: the queue in which people decide. Needs the role REVIEWER."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from imagemesh.cli import appeals, takedowns
from imagemesh.cli.failures import Failure, told
from imagemesh.cli.output import facts, json_option, moment, note, plain, print_message, show, table
from imagemesh.cli.session import Session
from imagemesh.client import Client
from imagemesh.errors import NotFoundError, WrongStateError
from imagemesh.moderation.v1 import review_pb2, review_service_pb2_grpc, verdict_pb2
from imagemesh.moderation.v1 import review_service_pb2 as pb2

STATES = [name.removeprefix("REVIEW_STATE_").lower() for name in review_pb2.ReviewState.keys()[1:]]
SEVERITIES = [name.removeprefix("SEVERITY_").lower() for name in review_pb2.Severity.keys()[1:]]
CATEGORIES = [name.removeprefix("CATEGORY_") for name in verdict_pb2.Category.keys()[1:]]
CHOICES = ["allow", "block", "skip", "quit"]
PAGE = 200

Stub = review_service_pb2_grpc.ReviewServiceStub
category = click.Choice(CATEGORIES, case_sensitive=False)


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def reviews(context: click.Context, as_json: bool) -> None:
    """Work through what waits for a person: pictures and prompts, appeals, reports. Alone, it lists the queue."""
    if context.invoked_subcommand is None:
        context.invoke(list_reviews, as_json=as_json)


@reviews.command("list")
@click.option("--state", type=click.Choice(STATES), help="Default: pending and claimed.")
@click.option("--severity", type=click.Choice(SEVERITIES), help="At least this.")
@click.option("--category", "categories", type=category, multiple=True, help="Only these; may be given repeatedly.")
@json_option
@click.pass_obj
def list_reviews(
    session: Session,
    as_json: bool,
    state: str | None = None,
    severity: str | None = None,
    categories: tuple[str, ...] = (),
) -> None:
    """List reviews, the most severe first, oldest first within a severity."""
    request = pb2.ListReviewsRequest(page_size=PAGE, categories=[_category(name) for name in categories])
    if state:
        request.state = review_pb2.ReviewState.Value(f"REVIEW_STATE_{state.upper()}")
    if severity:
        request.severity = review_pb2.Severity.Value(f"SEVERITY_{severity.upper()}")
    with mesh(session) as (client, stub):
        answer = client.call(stub.ListReviews, request)
    if as_json:
        print_message(answer)
        return
    columns = ("review", "severity", "cause", "state", "tenant", "about", "categories", "opened", "due")
    show(table(*columns, rows=[_row(review) for review in answer.reviews], empty="nothing waits for a person"))
    if answer.next_page_token:
        note(f"the first {PAGE}; there are more")


@reviews.command()
@click.argument("review_id", metavar="[REVIEW]", default="")
@json_option
@click.pass_obj
def claim(session: Session, review_id: str, as_json: bool) -> None:
    """Take REVIEW, or the first of the queue, for 30 minutes."""
    with mesh(session) as (client, stub):
        answer = client.call(stub.ClaimReview, pb2.ClaimReviewRequest(review_id=review_id), repeatable=False)
    if as_json:
        print_message(answer)
    else:
        tell(answer.review)


@reviews.command()
@click.argument("review_id", metavar="REVIEW")
@json_option
@click.pass_obj
def release(session: Session, review_id: str, as_json: bool) -> None:
    """Give REVIEW back to the queue."""
    with mesh(session) as (client, stub):
        answer = client.call(stub.ReleaseReview, pb2.ReleaseReviewRequest(review_id=review_id))
    if as_json:
        print_message(answer)
    else:
        click.echo(f"released {review_id}")


@reviews.command("show")
@click.argument("review_id", metavar="REVIEW")
@json_option
@click.pass_obj
def show_review(session: Session, review_id: str, as_json: bool) -> None:
    """Show REVIEW of the queue without claiming it; its text is shown only to who claims it."""
    with mesh(session) as (client, stub):
        review = _find(client, stub, review_id)
    if as_json:
        print_message(review)
    else:
        tell(review)


@reviews.command()
@click.argument("review_id", metavar="REVIEW")
@click.argument("decision", type=click.Choice(["allow", "block"]))
@click.option("--reason", type=category, help="What it is blocked for; required with block.")
@click.option("--note", "remark", default="", help="For the record.")
@click.option("--etag", default="", help="Default: claims the review and decides it as it is then.")
@json_option
@click.pass_context
def decide(context: click.Context, /, review_id: str, decision: str, as_json: bool, **given: str | None) -> None:
    """Decide REVIEW, which you have claimed or can claim."""
    request = _decision(review_id, decision, given["reason"] or "", given["remark"] or "")
    with mesh(context.obj) as (client, stub):
        request.etag = given["etag"] or _claimed(client, stub, review_id).etag
        answer = client.call(stub.DecideReview, request, repeatable=False)
    if as_json:
        print_message(answer)
    else:
        click.echo(f"{review_id}: {decision}")


@reviews.command("next")
@click.pass_obj
def work(session: Session) -> None:
    """Work through the queue: claim the first, show it, ask, decide, and so on until it is empty."""
    if not asked():
        raise click.UsageError("nobody can be asked here; use `reviews claim` and `reviews decide`")
    mine: set[str] = set()
    with mesh(session) as (client, stub):
        try:
            while _one(client, stub, mine):
                pass
        finally:  # also after Ctrl-C: nobody else could have them for half an hour
            for review_id in sorted(mine):
                with suppress(WrongStateError):  # somebody else has it by now, or it has ended
                    client.call(stub.ReleaseReview, pb2.ReleaseReviewRequest(review_id=review_id))


def asked() -> bool:
    """Whether there is somebody who answers."""
    return sys.stdin.isatty()


def _one(client: Client, stub: Stub, mine: set[str]) -> bool:
    """One item; False to stop. What is skipped stays `mine` until the end, so that it does not come again."""
    try:
        review = _claimed(client, stub, "")
    except NotFoundError:
        click.echo("nothing waits for a person")
        return False
    mine.add(review.review_id)
    tell(review)
    choice = click.prompt("decision", type=click.Choice(CHOICES))
    if choice in ("skip", "quit"):
        return bool(choice == "skip")
    reason = click.prompt("blocked for", type=category) if choice == "block" else ""
    request = _decision(review.review_id, choice, reason, click.prompt("note", default="", show_default=False))
    request.etag = review.etag
    client.call(stub.DecideReview, request, repeatable=False)
    mine.remove(review.review_id)
    return True


def tell(review: review_pb2.Review) -> None:
    """A review for people."""
    verdict = review.verdict
    show(
        facts(
            ("review", review.review_id),
            ("severity", plain(review_pb2.Severity.Name(review.severity), "SEVERITY_")),
            ("cause", plain(review_pb2.ReviewCause.Name(review.cause), "REVIEW_CAUSE_")),
            ("state", plain(review_pb2.ReviewState.Name(review.state), "REVIEW_STATE_")),
            ("tenant", review.tenant),
            ("job", review.job_id),
            (
                "picture",
                f"{review.asset_id}  (see `reviews picture`; blurred)" if review.asset_id else "",
            ),
            ("text", review.text),
            ("found", ", ".join(_score(score) for score in verdict.scores)),
            ("by", ", ".join(sorted({_evidence(one) for one in verdict.evidence}))),
            ("policy", f"{verdict.policy_id} {verdict.policy_version}" if verdict.policy_id else ""),
            ("opened", moment(review.create_time)),
            ("due", moment(review.due_time)),
            ("reviewer", review.reviewer),
            ("decision", plain(verdict_pb2.Decision.Name(review.decision), "DECISION_")),
            ("blocked for", plain(verdict_pb2.Category.Name(review.reason), "CATEGORY_") if review.reason else ""),
            ("note", review.note),
        )
    )


@contextmanager
def mesh(session: Session) -> Iterator[tuple[Client, Stub]]:
    """A client of the moderation service; errors of its calls become failures of the command."""
    with Client(*session.moderation()) as client, told():
        yield client, client.stub(Stub)


def _find(client: Client, stub: Stub, review_id: str) -> review_pb2.Review:
    for state in (0, review_pb2.REVIEW_STATE_DECIDED, review_pb2.REVIEW_STATE_EXPIRED):
        request = pb2.ListReviewsRequest(page_size=PAGE, state=state)  # type: ignore[arg-type]  # 0 is UNSPECIFIED
        while True:
            answer = client.call(stub.ListReviews, request)
            for review in answer.reviews:
                if review.review_id == review_id:
                    return review
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
    raise Failure(f"there is no review {review_id}")


def _claimed(client: Client, stub: Stub, review_id: str) -> review_pb2.Review:
    return client.call(stub.ClaimReview, pb2.ClaimReviewRequest(review_id=review_id), repeatable=False).review


def _decision(review_id: str, decision: str, reason: str, remark: str) -> pb2.DecideReviewRequest:
    if decision == "block" and not reason:
        raise click.UsageError("block needs --reason")
    request = pb2.DecideReviewRequest(review_id=review_id, note=remark)
    request.decision = verdict_pb2.Decision.Value(f"DECISION_{decision.upper()}")
    if reason:
        request.reason = _category(reason)
    return request


def _category(name: str) -> verdict_pb2.Category.ValueType:
    return verdict_pb2.Category.Value(f"CATEGORY_{name.upper()}")


def _row(review: review_pb2.Review) -> tuple[str, ...]:
    return (
        review.review_id,
        plain(review_pb2.Severity.Name(review.severity), "SEVERITY_"),
        plain(review_pb2.ReviewCause.Name(review.cause), "REVIEW_CAUSE_"),
        plain(review_pb2.ReviewState.Name(review.state), "REVIEW_STATE_"),
        review.tenant,
        review.asset_id or review.job_id or "prompt",
        ", ".join(plain(verdict_pb2.Category.Name(score.category), "CATEGORY_") for score in review.verdict.scores[:3]),
        moment(review.create_time),
        moment(review.due_time),
    )


def _score(score: verdict_pb2.CategoryScore) -> str:
    decision = plain(verdict_pb2.Decision.Name(score.decision), "DECISION_")
    return f"{plain(verdict_pb2.Category.Name(score.category), 'CATEGORY_')} {score.score:.2f} ({decision})"


def _evidence(evidence: verdict_pb2.Evidence) -> str:
    return f"{evidence.layer}: {evidence.entry}" if evidence.entry else evidence.layer


for command in (*appeals.COMMANDS, *takedowns.COMMANDS):
    reviews.add_command(command)
