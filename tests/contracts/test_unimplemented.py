"""No rpc pretends: what is for later says so, and the list of it is exact."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import ServiceDescriptor

from tests.contracts.contract import declared, refuses, servicer
from tests.contracts.unimplemented import UNIMPLEMENTED

SERVICES = list(declared())


def test_the_list_names_every_service_of_the_contract() -> None:
    assert set(UNIMPLEMENTED) == {service.full_name for service in SERVICES}


def test_the_list_names_rpcs_of_the_contract() -> None:
    for service in SERVICES:
        assert UNIMPLEMENTED[service.full_name] <= set(service.methods_by_name)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.full_name)
async def test_exactly_these_rpcs_are_for_later(service: ServiceDescriptor) -> None:
    serving = servicer(service)
    refusing = {method.name for method in service.methods if await refuses(serving, method)}
    assert refusing == UNIMPLEMENTED[service.full_name]


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.full_name)
def test_every_rpc_is_answered_by_our_own_code(service: ServiceDescriptor) -> None:
    kind = type(servicer(service))
    generated = next(base for base in kind.__mro__ if base.__name__ == f"{service.name}Servicer")
    for method in service.methods:
        assert getattr(kind, method.name) is not getattr(generated, method.name), method.full_name
