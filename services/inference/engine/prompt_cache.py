"""Encoded prompts, kept so that the same words are not read twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping

import torch

Conditions = Mapping[str, torch.Tensor]  # what the denoiser is told, by the name of its argument; rows first

MOST_BYTES = 128 * 2**20  # about 30 prompts of FLUX, 100 of SDXL with their negative ones


class PromptCache:
    """At most `most_bytes` of encoded prompts; those not asked for the longest leave first. Any thread may use it."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Conditions] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable, encode: Callable[[], Conditions]) -> Conditions:
        """What `encode` gave for `key`. The key names all it depends on: the texts and the adapters in force."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        encoded = encode()
        with self._lock:
            self._keep(key, encoded)
        return encoded

    def _keep(self, key: Hashable, encoded: Conditions) -> None:
        if key in self._kept or _size(encoded) > self._most:
            return
        self._kept[key] = encoded
        self._bytes += _size(encoded)
        while self._bytes > self._most:
            self._bytes -= _size(self._kept.popitem(last=False)[1])


def _size(encoded: Conditions) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in encoded.values())
