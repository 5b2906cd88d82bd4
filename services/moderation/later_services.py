"""ReviewService before its step: every rpc says that it comes later, and what holds until then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from imagemesh.moderation.v1 import (
    review_service_pb2,
    review_service_pb2_grpc,
)

from mesh.errors import unimplemented

REVIEW = "until then the review tier of a policy means its `review_decision`, and verdicts stand"


def review_service() -> Any:
    """A servicer that refuses every rpc of ReviewService."""
    service = review_service_pb2.DESCRIPTOR.services_by_name["ReviewService"]
    return refusing(review_service_pb2_grpc.ReviewServiceServicer, service, REVIEW)


def refusing(base: Any, service: ServiceDescriptor, instead: str) -> Any:
    """A servicer of the generated class `base` whose every rpc raises Unimplemented."""
    rpcs = {method.name: _refusal(method, instead) for method in service.methods}
    return type(f"Later{service.name}", (base,), rpcs)()


def _refusal(method: MethodDescriptor, instead: str) -> Callable[..., Awaitable[Any] | AsyncIterator[Any]]:
    async def unary(_self: object, _request: object, _context: object) -> Any:
        raise unimplemented(method.name, instead)

    async def streaming(_self: object, _request: object, _context: object) -> AsyncIterator[Any]:
        raise unimplemented(method.name, instead)
        yield

    return streaming if method.server_streaming else unary
