"""The contract itself: every rpc says who may call it, has messages of its own, and every file its options."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import ServiceDescriptor
from imagemesh.type.v1 import access_pb2, error_reason_pb2

from tests.contracts.contract import declared

SERVICES = list(declared())


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.full_name)
def test_every_rpc_says_who_may_call_it(service: ServiceDescriptor) -> None:
    for method in service.methods:
        roles = method.GetOptions().Extensions[access_pb2.access].roles
        assert roles, method.full_name
        assert access_pb2.ROLE_UNSPECIFIED not in roles
        assert len(set(roles)) == len(roles)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.full_name)
def test_every_rpc_has_messages_of_its_own(service: ServiceDescriptor) -> None:
    for method in service.methods:
        assert (method.input_type.name, method.output_type.name) == (f"{method.name}Request", f"{method.name}Response")


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.full_name)
def test_every_file_is_ready_for_other_languages(service: ServiceDescriptor) -> None:
    options = service.file.GetOptions()
    package = service.full_name.split(".")[1]
    assert options.csharp_namespace == f"ImageMesh.{package.capitalize()}.V1"
    assert options.java_package == f"io.imagemesh.{package}.v1"
    assert options.java_multiple_files
    assert options.go_package.endswith(f"/imagemesh/{package}/v1;{package}v1")


def test_reasons_fit_the_error_details() -> None:
    for value in error_reason_pb2.ErrorReason.DESCRIPTOR.values:
        name = value.name
        assert len(name.removeprefix("ERROR_REASON_")) <= 63
