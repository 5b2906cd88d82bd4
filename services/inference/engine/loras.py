"""A model's LoRAs as they lie on the disk now: those that `model.yaml` names, and those of its folder `loras`.

    models/<id>/loras/ink.safetensors      the LoRA `ink`
    models/<id>/loras/oil/….safetensors    the LoRA `oil`

Files come and go while the model draws, so whoever wants to know looks again. One that was not copied whole yet, or
holds something else, has a fault, which goes when the file changes. Needs no torch: service and engine both look.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.inference.engine.manifest import LORA_ID, LORAS, Lora, Model

SUFFIX = ".safetensors"
USUAL_NAME = "pytorch_lora_weights.safetensors"
MOST_BYTES = 4 * 2**30  # of one file; what is larger is a whole model
MOST_HEADER_BYTES = 32 * 2**20
LENGTH_BYTES = 8
SETTINGS = "lora_adapter_metadata"  # where diffusers keeps what the tensors do not tell, such as alpha

Stamp = tuple[object, ...]


@dataclass(frozen=True)
class LoraSource:
    """Where a LoRA's weights are: in a `file`, or at the `hub`. Another `stamp` means other weights.

    fault: why it cannot be used, after its name in a sentence; empty when nothing is known against it.
    """

    file: Path = Path()
    hub: Lora | None = None
    stamp: Stamp = ()
    fault: str = ""


class LoraShelf:
    """The LoRAs of one model. `seen` is what the last look found, by id; any thread may look."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.seen: Mapping[str, LoraSource] = {}

    def look(self) -> Mapping[str, LoraSource]:
        """What is there now; blocks for a moment. What was found good is opened again only when it has changed."""
        good = {source.stamp for source in self.seen.values() if not source.fault}
        self.seen = {} if self._model.manifest.takes_no_loras else dict(sorted(self._found(good)))
        return self.seen

    def _found(self, good: AbstractSet[Stamp]) -> Iterator[tuple[str, LoraSource]]:
        named = self._model.manifest.loras
        for name, path in self._in_folder():
            if name not in named:
                yield name, _checked(name, path, "", good)
        for name, lora in named.items():
            if lora.hub:
                yield name, LoraSource(hub=lora, stamp=(lora.hub, lora.revision, lora.file))
            else:
                yield name, _checked(name, self._model.folder / lora.path, lora.file, good)

    def _in_folder(self) -> Iterator[tuple[str, Path]]:
        folder = self._model.folder / LORAS
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            return
        for path in entries:
            if path.name.startswith("."):
                continue
            if path.suffix == SUFFIX:
                yield path.stem, path
            elif path.is_dir():
                yield path.name, path


def _checked(name: str, path: Path, file: str, good: AbstractSet[Stamp]) -> LoraSource:
    if not re.fullmatch(LORA_ID, name):
        return LoraSource(path, fault="has a name that is not lower-case letters, digits, dots, dashes and underlines")
    try:
        source = _located(path, file)
        return source if source.fault or source.stamp in good else replace(source, fault=_fault(source.file))
    except FileNotFoundError:
        return LoraSource(path, fault=f"has no weights: nothing at {path.name}")
    except OSError as error:
        return LoraSource(path, fault=f"cannot be read: {error.strerror}")


def _located(path: Path, file: str) -> LoraSource:
    if path.is_dir():
        inside = [path / file] if file else sorted(path.glob(f"*{SUFFIX}"))
        usual = path / USUAL_NAME
        if not inside:
            return LoraSource(path, fault=f"has no weights: no {SUFFIX} file in {path.name}")
        if len(inside) > 1 and usual not in inside:
            return LoraSource(path, fault=f"has several files in {path.name}; leave one")
        path = usual if usual in inside else inside[0]
    facts = path.stat()
    return LoraSource(path, stamp=(str(path), facts.st_ino, facts.st_size, facts.st_mtime_ns))


def _fault(file: Path) -> str:
    """What the header of a file tells against it."""
    size = file.stat().st_size
    if size > MOST_BYTES:
        return f"is no LoRA: {size / 2**30:.1f} GiB"
    try:
        tensors, end = _tensors(file)
    except (ValueError, TypeError, LookupError, AttributeError):
        return f"is broken: {file.name} is no whole {SUFFIX} file"
    if end != size:
        return f"is broken: {file.name} has {size} bytes where its header tells of {end}"
    if not tensors or not all("lora" in name or "alpha" in name for name in tensors):
        return f"is no LoRA: {file.name} holds other weights"
    if any("dora_scale" in name for name in tensors):
        return "is a DoRA, which is not supported"
    return ""


def _tensors(file: Path) -> tuple[list[str], int]:
    """The names of a file's tensors, and the length it should have, in bytes."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(LENGTH_BYTES), "little")
        if length > MOST_HEADER_BYTES:
            raise ValueError("the header is too long")
        header = json.loads(opened.read(length))
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    ends = [int(entry["data_offsets"][1]) for entry in entries.values()]
    return list(entries), LENGTH_BYTES + length + max(ends, default=0)


def settings_of(data: bytes) -> Mapping[str, Any] | None:
    """What diffusers wrote beside the tensors of a whole file; None when it did not write it."""
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    beside = json.loads(data[LENGTH_BYTES : LENGTH_BYTES + length]).get("__metadata__") or {}
    return json.loads(beside[SETTINGS]) if SETTINGS in beside else None
