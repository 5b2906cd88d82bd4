"""What own engines can do, as the inference service lists it."""

from __future__ import annotations

from collections.abc import Sequence

import grpc.aio
from imagemesh.inference.v1 import inference_service_pb2 as pb
from imagemesh.inference.v1 import inference_service_pb2_grpc, model_pb2

from mesh.status import peer_errors

PAGE = 200
TIMEOUT = 2.0


class InferencePeer:
    """The inference service behind a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = inference_service_pb2_grpc.InferenceServiceStub(channel)

    async def models(self) -> Sequence[model_pb2.Model]:
        """Every own model. Raises MeshError when there is no answer within two seconds."""
        found: list[model_pb2.Model] = []
        request = pb.ListModelsRequest(page_size=PAGE)
        with peer_errors("inference"):
            while True:
                answer = await self._stub.ListModels(request, timeout=TIMEOUT)
                found.extend(answer.models)
                if not answer.next_page_token:
                    return found
                request.page_token = answer.next_page_token
