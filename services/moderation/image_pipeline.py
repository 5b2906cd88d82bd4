"""How pictures are judged: safe decode, perceptual hash against the blocked pictures, classifiers; in this order.

Bytes are hashed, decoded and shrunk in one go in the imaging threads; a bounded number of pictures may wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from PIL import Image

from mesh import imaging
from mesh.errors import Unavailable
from services.moderation.classifiers.base import ImageClassifier, Picture
from services.moderation.layers import Outcome, classify, outcome
from services.moderation.perceptual import Fingerprint, Grey, HashTable, fingerprint
from services.moderation.policies import Policy
from services.moderation.verdicts import Decision, Finding

LAYER = "perceptual-hash"
MODEL_VERSION = "phash-64"
INLINE_ENTRIES = 2_000  # blocked pictures that are compared within a millisecond
SAMPLES = 256  # pixels a side that are looked at for the hash
THUMBNAIL = 64  # pixels a side, at least, that go into it
PLAIN = ("srgb", "b-w")  # what needs no conversion
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # by the number of bands


@dataclass(frozen=True, slots=True)
class Inspection:
    """What decoding a picture tells: the hash of its bytes, its size, and what it looks like."""

    picture: Picture
    sha256: str
    fingerprint: Fingerprint


class ImagePipeline:
    """Judges pictures. `working` pictures are held in memory at once, `waiting` more may queue."""

    def __init__(self, classifiers: Sequence[ImageClassifier], working: int = 8, waiting: int = 256) -> None:
        self._classifiers = tuple(classifiers)
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

    async def judge(self, seen: Inspection, policy: Policy, table: HashTable) -> Outcome:
        """What all layers find in the picture under the policy."""
        if len(table) > INLINE_ENTRIES:
            findings = await imaging.in_thread(lambda: _blocked(seen, policy, table))
        else:
            findings = _blocked(seen, policy, table)
        if not self._classifiers:
            return outcome(findings, ())
        scored = await classify(self._classifiers, policy, lambda classifier: classifier.judge(seen.picture))
        findings.extend(finding for _, more in scored for finding in more)
        return outcome(findings, (categories for categories, _ in scored))


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


def inspect(data: bytes) -> Inspection:
    """Hashes, decodes and shrinks; for worker threads."""
    lazy, info = imaging.open_image(data)
    if _animated(lazy, data):
        raise imaging.unreadable("it is animated; send a single picture")
    return Inspection(
        Picture(data, info.format, info.width, info.height),
        sha256(data).hexdigest(),
        fingerprint(_grey(_decoded(lazy))),
    )


def _animated(lazy: Any, data: bytes) -> bool:
    """More than one frame: the decoder would show only the first, and the others would go unjudged."""
    if lazy.get_typeof("n-pages") and lazy.get("n-pages") > 1:
        return True
    return b"acTL" in data[: data.find(b"IDAT")] if imaging.sniff(data) == "png" else False


def _decoded(lazy: Any) -> Image.Image:
    """Every pixel in memory, as 8-bit grey or colour; truncated and damaged files end here."""
    import pyvips

    plain = lazy if lazy.interpretation in PLAIN else lazy.colourspace("srgb")
    try:
        pixels = (plain if plain.format == "uchar" else plain.cast("uchar")).write_to_memory()
    except pyvips.Error as error:
        raise imaging.unreadable("it is truncated or damaged") from error
    return Image.frombuffer(MODES[plain.bands], (plain.width, plain.height), pixels, "raw", MODES[plain.bands], 0, 1)


def _grey(image: Image.Image) -> Grey:
    """A small grey picture: sampled, then averaged, since averaging all pixels costs as much as decoding them."""
    step = max(1, min(image.size) // SAMPLES)
    if step > 1:
        image = image.resize((image.width // step, image.height // step), Image.Resampling.NEAREST)
    if image.mode in ("LA", "RGBA"):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    across, down = max(1, image.width // THUMBNAIL), max(1, image.height // THUMBNAIL)
    return np.asarray(image.convert("L").reduce((across, down)))
