"""What the engine tells about a request while it draws, in order: Progress… and Preview…, Picture…, Finished."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """`step` of `steps` denoising steps are done; 0 means admitted."""

    step: int
    steps: int


@dataclass(frozen=True)
class Preview:
    """A rough look at unfinished picture `index` after `step` steps: JPEG bytes, at most 64 KiB. Nobody judged it."""

    index: int
    step: int
    data: bytes
    media_type: str = "image/jpeg"


@dataclass(frozen=True)
class Picture:
    """A finished picture: PNG bytes, size in pixels, and the seed it was drawn from."""

    index: int
    seed: int
    width: int
    height: int
    data: bytes


@dataclass(frozen=True)
class Stage:
    """A stretch of a request's time: name, start and end in nanoseconds since the epoch, and what was done in it."""

    name: str
    start_ns: int
    end_ns: int
    attributes: dict[str, str | int | float]


@dataclass(frozen=True)
class Finished:
    """The end of a successful request. `device_seconds` is its share of the device's time."""

    steps: int
    device_seconds: float
    stages: tuple[Stage, ...]


Fact = Progress | Preview | Picture | Finished


@dataclass(frozen=True)
class Pass:
    """One forward pass: how many requests, pictures and rows shared it, and how long it took."""

    requests: int
    pictures: int
    rows: int
    seconds: float


@dataclass(frozen=True)
class Load:
    """How busy the engine of one model is. `requests` are the ids of everything running or waiting.

    Since the model was loaded: `steps_done` counts each picture's, `passes` the forward passes, `rows_done` their rows.
    `memory_promised` of `memory_limit` bytes are set aside for what is running; the limit is 0 where none is counted.
    """

    running: int
    waiting: int
    slots: int
    waiting_limit: int
    steps_done: int
    requests: tuple[str, ...] = ()
    passes: int = 0
    rows_done: int = 0
    memory_promised: int = 0
    memory_limit: int = 0


@dataclass(frozen=True)
class Memory:
    """Memory of one device in bytes; 0 where it cannot be told."""

    device: str
    total: int
    used: int
