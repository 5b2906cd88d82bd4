"""The steps that ask moderation: texts before anything is spent, pictures before anything is let out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence

from mesh.errors import FailedPrecondition, InvalidArgument, MeshError, NotFound
from services.router.jobs import BlockedBy, ImageState, JobState, WaitingFor
from services.router.leases import Ending, Parking
from services.router.peers.moderation import Decision, Moderation, Verdict
from services.router.pictures import Picture
from services.router.runs import Run
from services.router.specs import GenerationSpec

DECIDED = "review-decided."
"""Moderation's signal that a person has decided; the job's id follows."""
NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")
"""A name of an option; anything longer, or of several words, may say something and is judged."""
REVIEW_LOOK_S = 30.0
"""How often a job looks whether a person has decided; being told makes it sooner."""


def texts_of(spec: GenerationSpec) -> dict[str, str]:
    """All text of a spec by kind; what providers' options say in words goes out too, so it is judged like a style."""
    said = "\n".join(text for chosen in spec.provider_options.values() for text in _words(chosen))
    return {"PROMPT": spec.prompt, "NEGATIVE_PROMPT": spec.negative_prompt, "STYLE": said}


def _words(value: object) -> Iterator[str]:
    """Every text in an option, however deep it lies: some vendors take lists of prompts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _words(inner)
            if not isinstance(name, str) or not NAME.fullmatch(name):
                yield str(name)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _words(inner)


class Judge:
    """Moderation, as the pipeline asks it."""

    def __init__(self, moderation: Moderation) -> None:
        self._moderation = moderation

    async def texts(self, run: Run) -> Parking | None:
        """Judge all text of the spec; a refusal is noted as the run's ending. What says nothing needs no verdict."""
        texts = texts_of(run.spec)
        if not any(texts.values()):
            return None
        verdict = await self._moderation.judge_texts(run.subject, texts)
        run.policy = verdict.policy
        if verdict.decision is Decision.REVIEW:
            return Parking(WaitingFor.REVIEW, REVIEW_LOOK_S)
        if verdict.decision is Decision.BLOCK:
            run.ending = blocked(BlockedBy.PROMPT, refusal("the prompt", verdict), verdict.verdict_id)
        return None

    async def input(self, run: Run, asset_id: str) -> Parking | None:
        """Judge a picture that the caller brought."""
        verdict = await self._moderation.judge_image(run.subject, asset_id)
        if verdict.decision is Decision.REVIEW:
            return Parking(WaitingFor.REVIEW, REVIEW_LOOK_S)
        if verdict.decision is Decision.BLOCK:
            run.ending = blocked(BlockedBy.INPUT, refusal("an input picture", verdict), verdict.verdict_id)
        return None

    async def pictures(self, run: Run) -> Parking | None:
        """Judge every stored picture; park while a person decides, but not for ever."""
        waiting = [picture for picture in run.pictures.values() if _undecided(picture)]
        judged = await asyncio.gather(*(self._picture(run, picture) for picture in waiting))
        run.pictures.update({picture.index: picture for picture in judged})
        if not any(_undecided(picture) for picture in judged):
            return None
        if run.clock() < run.grace_ends:
            return Parking(WaitingFor.REVIEW, REVIEW_LOOK_S)
        expire(run)
        return None

    async def _picture(self, run: Run, picture: Picture) -> Picture:
        assert picture.asset is not None, "only stored pictures are judged"
        try:
            verdict = await self._moderation.judge_image(run.subject, picture.asset.asset_id, picture.asset.data)
        except (InvalidArgument, NotFound) as error:  # it cannot be looked at, so it cannot be let out
            return picture.ended(ImageState.FAILED, error)
        judged = picture.judged(verdict)
        return judged.ended(ImageState.BLOCKED, refusal("the picture", verdict)) if verdict.expired else judged


def expire(run: Run) -> None:
    """Nobody decided in time: what is undecided is refused."""
    error = FailedPrecondition("nobody decided on the picture in time", reason="REVIEW_EXPIRED")
    for picture in [picture for picture in run.pictures.values() if _undecided(picture)]:
        run.pictures[picture.index] = picture.ended(ImageState.BLOCKED, error)


def refusal(what: str, verdict: Verdict) -> MeshError:
    """Why it is refused: by moderation, or since nobody decided about it in time."""
    if verdict.expired:
        return FailedPrecondition(f"nobody decided on {what} in time", reason="REVIEW_EXPIRED")
    return FailedPrecondition(f"moderation refused {what}", reason="MODERATION_BLOCKED")


def blocked(by: BlockedBy, error: MeshError, verdict_id: str = "") -> Ending:
    """The end of a job that was refused before anything was drawn."""
    return Ending(JobState.BLOCKED, failure=error, blocked_by=by, verdict_id=verdict_id)


def _undecided(picture: Picture) -> bool:
    return picture.state is ImageState.QUARANTINED and not picture.publishable
