"""Requests and facts as JSON and bytes, for the way into Triton and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from services.inference.engine.errors import EngineError, from_code
from services.inference.engine.facts import Fact, Finished, Load, Memory, Picture, Progress, Stage
from services.inference.engine.request import DrawRequest

Encoded = tuple[bytes, bytes]  # a JSON header, and the bytes it is about


def encode_request(request: DrawRequest) -> bytes:
    """The request as JSON."""
    return json.dumps(asdict(request)).encode()


def decode_request(data: bytes) -> DrawRequest:
    """The request inside; ValueError or TypeError for anything else."""
    return DrawRequest(**json.loads(data))


def encode_fact(fact: Fact | EngineError) -> Encoded:
    """Header and bytes of a fact or of the error that ends a request."""
    if isinstance(fact, EngineError):
        return _header("error", {"code": fact.code, "text": str(fact)}), b""
    if isinstance(fact, Picture):
        return _header("picture", {**asdict(fact), "data": ""}), fact.data
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


_DECODERS: Mapping[str, Callable[[dict[str, Any], bytes], Fact | EngineError]] = {
    "progress": lambda fields, _: Progress(**fields),
    "picture": lambda fields, data: Picture(**{**fields, "data": data}),
    "finished": _finished,
    "error": lambda fields, _: from_code(fields["code"], fields["text"]),
}
