"""Errors on the wire and back: one table for every kind."""

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagemesh.type.v1 import error_reason_pb2

from mesh.errors import ERROR_TYPES, Code, FieldViolation, MeshError, NotFound, Unavailable, invalid
from mesh.paging import decode_token, encode_token, page_size
from mesh.server import DETAILS_KEY
from mesh.status import STATUS_CODES, from_rpc_error, from_status, to_rpc_status

REASONS = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()}  # noqa: SIM118  an enum wrapper, no dict


@pytest.mark.parametrize("kind", ERROR_TYPES.values())
def test_error_survives_the_wire(kind: type[MeshError]) -> None:
    sent = kind("text", violations=[FieldViolation("a.b", "fix")], retry_after=1.5, metadata={"k": "v"})
    got = from_status(to_rpc_status(sent))
    assert type(got) is kind
    assert (got.message, got.reason, got.violations) == (sent.message, sent.reason, sent.violations)
    assert (got.retry_after, got.metadata) == (1.5, {"k": "v"})


@pytest.mark.parametrize("code", Code)
def test_status_table_agrees_with_grpc(code: Code) -> None:
    assert STATUS_CODES[code].value[0] == int(code)


@pytest.mark.parametrize("kind", ERROR_TYPES.values())
def test_default_reasons_are_in_the_contract(kind: type[MeshError]) -> None:
    assert kind.default_reason in REASONS


def test_exactly_one_error_info() -> None:
    status = to_rpc_status(invalid("spec.prompt", "1 to 32,000 characters"))
    names = [detail.type_url.rpartition("/")[2] for detail in status.details]
    assert names == ["google.rpc.ErrorInfo", "google.rpc.BadRequest"]


@given(
    st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.text().filter(lambda t: "\0" not in t)), max_size=4),
    st.text(),
)
def test_page_tokens_come_back(position: list[int | str], scope: str) -> None:
    kinds = tuple(map(type, position))
    assert decode_token(encode_token(tuple(position), scope), scope, kinds) == tuple(position)


CRAFTED = [(), (1,), ("a", "b"), ("a\0",), ("\ud800",), (True,)]


@pytest.mark.parametrize(
    "token",
    ["", "x", "é", "bnVsbA", encode_token(("a",), "another list"), *(encode_token(p, "this list") for p in CRAFTED)],
)
def test_foreign_page_tokens_are_refused(token: str) -> None:
    with pytest.raises(MeshError) as caught:
        decode_token(token, "this list")
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


def test_page_size_has_default_and_limit() -> None:
    assert [page_size(n) for n in (0, 7, 100_000)] == [50, 7, 200]
    with pytest.raises(MeshError):
        page_size(-1)


def test_reasons_are_the_classes_own_unless_named() -> None:
    assert NotFound("gone", reason="JOB_NOT_FOUND").reason == "JOB_NOT_FOUND"


@pytest.mark.parametrize(("metadata", "peer"), [({}, "moderation"), ({"peer": "storage"}, "storage")])
def test_a_peers_own_error_says_whose_it_is(metadata: dict[str, str], peer: str) -> None:
    told = to_rpc_status(Unavailable("the database is busy", metadata=metadata))
    trailing = grpc.aio.Metadata((DETAILS_KEY, told.SerializeToString()))
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), trailing, told.message)
    assert from_rpc_error(error, "moderation").metadata == {"peer": peer}
