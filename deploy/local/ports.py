"""Which port each part listens on: the usual one, or a free one where it is taken."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

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


def choose_ports(wanted: Ports | None = None) -> Ports:
    """Keeps every wanted port that is free and replaces the others; all are held open until the whole choice stands."""
    names = vars(wanted or Ports())
    held: dict[str, socket.socket] = {}
    try:
        for name, port in names.items():
            held[name] = _try_bind(port) or _bind(0)
        return Ports(**{name: int(taken.getsockname()[1]) for name, taken in held.items()})
    finally:
        for taken in held.values():
            taken.close()


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
