"""Requests and facts as JSON and bytes, for the way into Triton and back."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from services.inference.engine.errors import EngineError, RequestRefused, Violation, from_code
from services.inference.engine.facts import Fact, Finished, Load, Memory, Picture, Preview, Progress, Stage
from services.inference.engine.request import ControlInput, DrawRequest, Lane, LoraUse, Margins

Encoded = tuple[bytes, bytes]  # a JSON header, and the bytes it is about

LENGTH = struct.Struct(">I")  # of the JSON that a request begins with; its images follow, one after another


def encode_request(request: DrawRequest) -> bytes:
    """The request: length of a JSON header (4 bytes, big-endian), the header, and the images it counts in bytes."""
    images = [request.image, request.mask, *(control.image for control in request.controls)]
    bare = replace(
        request, image=None, mask=None, controls=tuple(replace(control, image=b"") for control in request.controls)
    )
    fields = {**asdict(bare), "lane": request.lane.value}
    fields["controls"] = [{"kind": control.kind, "scale": control.scale} for control in request.controls]
    sizes = [None if image is None else len(image) for image in images]
    header = json.dumps({"request": fields, "images": sizes}).encode()
    return b"".join([LENGTH.pack(len(header)), header, *(image for image in images if image is not None)])


def decode_request(data: bytes) -> DrawRequest:
    """The request inside; KeyError, ValueError, TypeError or struct.error for anything else."""
    (length,) = LENGTH.unpack_from(data)
    rest = memoryview(data)[LENGTH.size :]
    parts = json.loads(bytes(rest[:length]))
    image, mask, *controls = _cut(rest[length:], parts["images"])
    fields = parts["request"]
    return DrawRequest(
        **{
            **fields,
            "lane": Lane(fields["lane"]),
            "margins": Margins(**fields["margins"]),
            "loras": tuple(LoraUse(**use) for use in fields["loras"]),
            "controls": tuple(
                ControlInput(**control, image=data or b"")
                for control, data in zip(fields["controls"], controls, strict=True)
            ),
            "image": image,
            "mask": mask,
        }
    )


def _cut(data: memoryview, sizes: list[int | None]) -> list[bytes | None]:
    images: list[bytes | None] = []
    place = 0
    for size in sizes:
        images.append(None if size is None else bytes(data[place : place + size]))
        place += size or 0
    if place != len(data):
        raise ValueError(f"{len(data)} bytes of images where {place} were announced")
    return images


def encode_fact(fact: Fact | EngineError) -> Encoded:
    """Header and bytes of a fact or of the error that ends a request."""
    if isinstance(fact, RequestRefused):
        return _header("refused", {"violations": [asdict(violation) for violation in fact.violations]}), b""
    if isinstance(fact, EngineError):
        return _header("error", {"code": fact.code, "text": str(fact)}), b""
    if isinstance(fact, Picture | Preview):
        return _header(type(fact).__name__.lower(), {**vars(fact), "data": ""}), fact.data
    return _header(type(fact).__name__.lower(), asdict(fact)), b""


def decode_fact(header: bytes, data: bytes) -> Fact | EngineError:
    """The fact inside; KeyError, ValueError or TypeError for anything else."""
    fields = json.loads(header)
    return _DECODERS[fields.pop("kind")](fields, data)


def encode_load(load: Load, memory: Memory) -> bytes:
    """The answer to a question about capacity."""
    return _header("load", {"load": asdict(load), "memory": asdict(memory)})


def decode_load(header: bytes) -> tuple[Load, Memory]:
    """The answer inside; KeyError, ValueError or TypeError for anything else."""
    fields = json.loads(header)
    return Load(**{**fields["load"], "requests": tuple(fields["load"]["requests"])}), Memory(**fields["memory"])


def _header(kind: str, fields: Mapping[str, Any]) -> bytes:
    return json.dumps({"kind": kind, **fields}).encode()


def _finished(fields: dict[str, Any], _: bytes) -> Finished:
    stages = tuple(Stage(**stage) for stage in fields.pop("stages"))
    return Finished(**fields, stages=stages)


def _refused(fields: dict[str, Any], _: bytes) -> RequestRefused:
    return RequestRefused([Violation(**violation) for violation in fields["violations"]])


_DECODERS: Mapping[str, Callable[[dict[str, Any], bytes], Fact | EngineError]] = {
    "progress": lambda fields, _: Progress(**fields),
    "preview": lambda fields, data: Preview(**{**fields, "data": data}),
    "picture": lambda fields, data: Picture(**{**fields, "data": data}),
    "finished": _finished,
    "refused": _refused,
    "error": lambda fields, _: from_code(fields["code"], fields["text"]),
}
