"""Reads a safetensors file: eight bytes of length, a JSON header of that length, then the numbers.

The format is described at github.com/huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Tensors = dict[str, npt.NDArray[np.float32]]


def read(path: Path) -> Tensors:
    """Every float32 tensor of the file by name; others (position ids) are left out."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    body = memoryview(data)[8 + length :]
    return {name: _tensor(entry, body) for name, entry in header.items() if entry.get("dtype") == "F32"}


def _tensor(entry: dict[str, Any], body: memoryview) -> npt.NDArray[np.float32]:
    start, end = entry["data_offsets"]
    return np.frombuffer(body[start:end], dtype="<f4").reshape(entry["shape"])
