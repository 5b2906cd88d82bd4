"""Ports: the usual ones where free, others where taken."""

from __future__ import annotations

import socket

from deploy.local.ports import HOST, choose_ports, is_free, moved_ports
from tests.local.conftest import other_ports


def test_free_ports_are_kept() -> None:
    wanted = other_ports()
    assert choose_ports(wanted) == wanted
    assert moved_ports(wanted, wanted) == {}


def test_a_taken_port_is_replaced_and_named() -> None:
    wanted = other_ports()
    with socket.create_server((HOST, wanted.storage)):
        assert not is_free(wanted.storage)
        chosen = choose_ports(wanted)
    moved = moved_ports(chosen, wanted)
    assert list(moved) == ["storage"]
    assert moved["storage"] not in vars(wanted).values()
    assert len(set(vars(chosen).values())) == len(vars(chosen))


def test_a_port_taken_on_every_address_counts_as_taken() -> None:
    wanted = other_ports()
    with socket.create_server(("0.0.0.0", wanted.router)):
        assert choose_ports(wanted).router != wanted.router
