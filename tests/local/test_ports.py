"""Ports: the usual ones where free, others where taken."""

from __future__ import annotations

import socket

from deploy.local.ports import HOST, Ports, Reservations, choose_ports, is_free, moved_ports
from tests.local.conftest import other_ports


def chosen_from(wanted: Ports) -> Ports:
    with Reservations() as reservations:
        return choose_ports(wanted, reservations)


def test_free_ports_are_kept() -> None:
    wanted = other_ports()
    assert chosen_from(wanted) == wanted
    assert moved_ports(wanted, wanted) == {}


def test_a_taken_port_is_replaced_and_named() -> None:
    wanted = other_ports()
    with socket.create_server((HOST, wanted.storage)):
        assert not is_free(wanted.storage)
        chosen = chosen_from(wanted)
    moved = moved_ports(chosen, wanted)
    assert list(moved) == ["storage"]
    assert moved["storage"] not in vars(wanted).values()
    assert len(set(vars(chosen).values())) == len(vars(chosen))


def test_a_port_taken_on_every_address_counts_as_taken() -> None:
    wanted = other_ports()
    with socket.create_server(("0.0.0.0", wanted.router)):
        assert chosen_from(wanted).router != wanted.router


def test_a_port_reserved_by_another_launcher_is_left_alone() -> None:
    wanted = other_ports()
    with Reservations() as first, Reservations() as second:
        assert choose_ports(wanted, first) == wanted
        other = choose_ports(wanted, second)
    assert not set(vars(other).values()) & set(vars(wanted).values())
    assert chosen_from(wanted) == wanted
