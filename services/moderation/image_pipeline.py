"""How pictures are judged: safe decode, perceptual hash against the blocked pictures, classifiers and plug-ins, and
text that is read in them through the text path; in this order.

Bytes are hashed, decoded and shrunk in one go in the imaging threads; a bounded number of pictures may wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mesh import imaging
from mesh.errors import Unavailable
from services.moderation import combining, language
from services.moderation.classifiers.base import ImageClassifier
from services.moderation.clues import Sides
from services.moderation.decoding import Inspection, inspect
from services.moderation.layers import Outcome, classify, outcome
from services.moderation.perceptual import HashTable
from services.moderation.picture_text import PictureReader
from services.moderation.policies import Policy
from services.moderation.text_pipeline import TextPipeline
from services.moderation.verdicts import Decision, Finding, Signs, Text, TextKind

LAYER = "perceptual-hash"
MODEL_VERSION = "phash-64"
INLINE_ENTRIES = 2_000  # blocked pictures that are compared within a millisecond

Read = tuple[Sequence[Finding], Sides]
"""What the text in a picture comes to, and what of it means something only beside something else."""


@dataclass(frozen=True)
class Reading:
    """Who reads the text in pictures, and who judges it."""

    reader: PictureReader
    texts: TextPipeline


class ImagePipeline:
    """Judges pictures. `working` pictures are held in memory at once, `waiting` more may queue.

    reading: None leaves the text in pictures unread.
    """

    def __init__(
        self,
        classifiers: Sequence[ImageClassifier],
        working: int = 8,
        waiting: int = 256,
        reading: Reading | None = None,
    ) -> None:
        self._classifiers = tuple(classifiers)
        self._reading = reading
        self._slots = asyncio.Semaphore(working)
        self._waiting = 0
        self._most_waiting = waiting

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Room for one picture in memory; Unavailable when too many wait for it already."""
        if self._waiting >= self._most_waiting:
            raise Unavailable("too many pictures wait to be judged", retry_after=1.0)
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def warm_up(self) -> None:
        """Loads what the first picture would have to wait for."""
        await imaging.in_thread(_warm_up)

    async def inspect(self, data: bytes) -> Inspection:
        """Decodes every pixel under the caps of `mesh.imaging`, and raises as it does."""
        return await imaging.in_thread(lambda: inspect(data))

    async def judge(
        self,
        seen: Inspection,
        policy: Policy,
        table: HashTable,
        prompts: Signs = Signs(),  # noqa: B008 - frozen
    ) -> Outcome:
        """What all layers find in the picture under the policy. prompts: what those of the same job came to."""
        if len(table) > INLINE_ENTRIES:
            findings = await imaging.in_thread(lambda: _blocked(seen, policy, table))
        else:
            findings = _blocked(seen, policy, table)
        asked = [each for each in self._classifiers if not (findings and each.capability.external)]
        scored, (read, said) = await asyncio.gather(
            classify(asked, policy, lambda classifier: classifier.judge(seen.picture)), self._read(seen, policy)
        )
        shown = [finding for _, more in scored for finding in more]
        findings += [*shown, *read, *combining.beside(shown, said, prompts)]
        return outcome(findings, (categories for categories, _ in scored))

    async def _read(self, seen: Inspection, policy: Policy) -> Read:
        """What the text in the picture comes to; nothing where it is not read."""
        if self._reading is None:
            return (), Sides()
        texts, said = self._reading.texts, Sides()

        async def judged(reader: PictureReader) -> Sequence[Finding]:
            nonlocal said
            findings, said = await _judged(reader, texts, seen, policy)
            return findings

        [(_, findings)] = await classify([self._reading.reader], policy, judged)
        return findings, said


async def _judged(reader: PictureReader, texts: TextPipeline, seen: Inspection, policy: Policy) -> Read:
    """Painted letters often spell nothing, so a language that nobody knows decides nothing here."""
    text = await reader.read(seen.picture)
    if not text:
        return (), Sides()
    judged = await texts.judge([Text(0, TextKind.IMAGE_TEXT, text)], policy)
    return [finding for finding in judged.findings if finding.layer != language.LAYER], judged.sides


def _blocked(seen: Inspection, policy: Policy, table: HashTable) -> list[Finding]:
    """A blocked picture that came back is blocked, whatever the thresholds of its category."""
    match = table.find(seen.fingerprint, seen.sha256, policy.document.hash_distance)
    if match is None:
        return []
    entry = f"hash/{match.blocked.hash_id}"
    return [Finding(LAYER, match.blocked.category, 1.0, entry, MODEL_VERSION, at_least=Decision.BLOCK)]


def _warm_up() -> None:
    import pyvips

    noise = pyvips.Image.gaussnoise(64, 64, mean=128, sigma=40).cast("uchar")
    inspect(bytes(noise.write_to_buffer(".png")))
