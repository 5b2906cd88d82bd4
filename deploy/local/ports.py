"""Which port each part listens on: the usual one, or a free one where it is taken."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """One TCP port per listener of the mesh, all on loopback."""

    router: int = 7400
    storage: int = 7401
    moderation: int = 7402
    inference: int = 7403
    triton: int = 7404
    triton_http: int = 7405
    triton_metrics: int = 7406
    worker: int = 7407
    nats: int = 7422
    router_http: int = 7480
    storage_http: int = 7481


class Reservations:
    """Ports that this launcher may use, so that two launchers that start together never share one.

    A locked file for each port, in a folder of this user; the kernel frees the locks when the process ends. A bound
    socket would not do: the child has to bind the port itself.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / f"imagemesh-ports-{os.getuid()}"
        self._held: dict[int, int] = {}

    def take(self, port: int) -> bool:
        """True when no other launcher has the port."""
        if port in self._held:
            return False
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._folder / str(port), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held[port] = descriptor
        return True

    def __enter__(self) -> Reservations:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Frees every port; may be called twice."""
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()


def choose_ports(wanted: Ports, reservations: Reservations) -> Ports:
    """Keeps every wanted port that is free and replaces the others; all are held open until the whole choice stands."""
    names = vars(wanted)
    held: dict[str, socket.socket] = {}
    try:
        for name, port in names.items():
            held[name] = _reserved(port, reservations) or _any_port(reservations)
        return Ports(**{name: _number(taken) for name, taken in held.items()})
    finally:
        for taken in held.values():
            taken.close()


def _reserved(port: int, reservations: Reservations) -> socket.socket | None:
    """The port, listening, if it is free and no other launcher's."""
    taken = _try_bind(port)
    if taken is not None and not reservations.take(_number(taken)):
        taken.close()
        return None
    return taken


def _any_port(reservations: Reservations) -> socket.socket:
    while True:
        found = _reserved(0, reservations)
        if found is not None:
            return found


def _number(listening: socket.socket) -> int:
    return int(listening.getsockname()[1])


def moved_ports(chosen: Ports, wanted: Ports | None = None) -> Mapping[str, int]:
    """The ports that are not the wanted ones, by name."""
    usual = vars(wanted or Ports())
    return {name: port for name, port in vars(chosen).items() if port != usual[name]}


def is_free(port: int) -> bool:
    """Whether nothing listens on the port."""
    probe = _try_bind(port)
    if probe is None:
        return False
    probe.close()
    return True


def _try_bind(port: int) -> socket.socket | None:
    try:
        return _bind(port)
    except OSError:
        return None


def _bind(port: int) -> socket.socket:
    """Listens, because two sockets may be bound to one port until one of them listens."""
    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        probe.listen(1)
    except OSError:
        probe.close()
        raise
    return probe
