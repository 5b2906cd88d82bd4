"""One picture from another, through libvips. Blocking: runs in threads, each picture in one."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mesh import imaging
from mesh.imaging import open_image
from services.storage.renditions import Order

ANY_SIDE = 10_000_000  # libvips' largest side: the other one decides
WHITE = [255, 255, 255]
PNG_HEADER = 33  # bytes of signature and IHDR; text chunks may follow at once
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>""".encode()


@dataclass(frozen=True)
class Made:
    """The encoded picture and what it is."""

    data: bytes
    width: int
    height: int
    format: str


SAVERS: Mapping[str, Callable[[Any, int], bytes]] = {
    "webp": lambda image, quality: image.webpsave_buffer(Q=quality, effort=2, keep="xmp:icc"),
    "avif": lambda image, quality: image.heifsave_buffer(Q=quality, compression="av1", effort=1, keep="xmp:icc"),
    "jpeg": lambda image, quality: image.jpegsave_buffer(Q=quality, optimize_coding=True, keep="xmp:icc"),
    "png": lambda image, _: _png(image),
}

FITS: Mapping[str, Mapping[str, str]] = {
    "contain": {"size": "down"},
    "cover": {"size": "both", "crop": "centre"},
    "fill": {"size": "force"},
}


def transcode(data: bytes, order: Order) -> Made:
    """Resizes and encodes. Whatever metadata the source had is dropped, except its colour profile.

    Raises InvalidArgument (IMAGE_UNREADABLE, IMAGE_TOO_LARGE) when the source cannot be decoded within the caps.
    """
    opened, _ = open_image(data)
    try:
        image = _marked(_resized(opened, data, order).copy_memory(), order)
        if order.format == "jpeg" and image.hasalpha():
            image = image.flatten(background=WHITE)
        return Made(SAVERS[order.format](image, order.quality), image.width, image.height, order.format)
    except _vips_error() as error:
        raise imaging.unreadable("it is truncated or damaged") from error


def _png(image: Any) -> bytes:
    """libvips would write XMP as a compressed chunk that other readers do not look into; the standard's is iTXt."""
    data: bytes = image.pngsave_buffer(compression=6, keep="icc")
    if not image.get_typeof("xmp-data"):
        return data
    body = b"XML:com.adobe.xmp\0\0\0\0\0" + image.get("xmp-data")
    chunk: bytes = struct.pack(">I", len(body)) + b"iTXt" + body + struct.pack(">I", zlib.crc32(b"iTXt" + body))
    return data[:PNG_HEADER] + chunk + data[PNG_HEADER:]


def _resized(opened: Any, data: bytes, order: Order) -> Any:
    if not (order.width or order.height):
        return opened.autorot()
    sides = {"width": order.width or ANY_SIDE, "height": order.height or ANY_SIDE}
    return _thumbnail(data, sides["width"], height=sides["height"], **FITS[order.fit])


def _marked(image: Any, order: Order) -> Any:
    import pyvips

    image = image.copy()
    if image.get_typeof("xmp-data"):
        image.remove("xmp-data")
    if order.marked:
        image.set_type(pyvips.GValue.blob_type, "xmp-data", XMP)
    return image


def _thumbnail(data: bytes, width: int, **options: Any) -> Any:
    import pyvips

    return pyvips.Image.thumbnail_buffer(data, width, fail_on="truncated", **options)


def _vips_error() -> type[Exception]:
    import pyvips

    return pyvips.Error  # type: ignore[no-any-return]
