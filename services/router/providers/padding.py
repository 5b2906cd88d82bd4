"""Servers whose edges are multiples of 8, as latent models draw: sources padded to such sizes, results cut back."""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.router.providers.base import Margins, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.fitting import refuse_other_size
from services.router.providers.retouch import padded, size_of, trimmed

STEP = 8


@dataclass(frozen=True)
class Shaped:
    """A call whose size is settled."""

    call: ProviderCall
    drawn: tuple[int, int] = (0, 0)
    wanted: tuple[int, int] = (0, 0)
    """Other than `drawn` where the result has to be cut."""

    async def finished(self, data: bytes) -> bytes:
        """The result in the size that is wanted."""
        return data if self.drawn == self.wanted else await trimmed(data, self.drawn, self.wanted)


async def shaped(call: ProviderCall, resized: frozenset[str] = frozenset()) -> Shaped:
    """OUTPAINT as an inpaint of a padded picture; a picture drawn over keeps its size, padded to one that is drawn.

    resized: operations in which the server brings the source to another size by itself.

    Raises:
        ProviderError: BAD_REQUEST when a size is asked for that is not drawn, or not from this source.
    """
    if call.width % STEP or call.height % STEP:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"edges of pictures drawn here are multiples of {STEP}")
    if not call.images or (call.width and call.operation in resized):
        return Shaped(call)
    await refuse_other_size(call)
    (width, height), at = await size_of(call.images[0]), call.margins
    wanted = (width + at.left + at.right, height + at.top + at.bottom)
    rest = Margins(right=-wanted[0] % STEP, bottom=-wanted[1] % STEP)
    image, mask = call.images[0], call.mask
    if call.operation == "OUTPAINT":
        image, mask = await padded(image, replace(at, right=at.right + rest.right, bottom=at.bottom + rest.bottom))
    elif rest != Margins():
        image, mask = (await padded(image, rest))[0], (await padded(mask, rest))[0] if mask else None
    drawn = (wanted[0] + rest.right, wanted[1] + rest.bottom)
    return Shaped(replace(call, images=(image,), mask=mask, width=drawn[0], height=drawn[1]), drawn, wanted)
