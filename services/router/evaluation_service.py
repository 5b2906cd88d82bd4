"""Evaluations: declared in the contract, for later."""

from __future__ import annotations

from typing import Any, NoReturn

from imagemesh.router.v1 import evaluation_service_pb2 as pb
from imagemesh.router.v1 import evaluation_service_pb2_grpc

from mesh.errors import unimplemented


class EvaluationService(evaluation_service_pb2_grpc.EvaluationServiceServicer):
    """Every rpc answers UNIMPLEMENTED."""

    async def CreateEvaluation(self, request: pb.CreateEvaluationRequest, context: Any) -> NoReturn:
        """For later."""
        raise unimplemented("EvaluationService.CreateEvaluation", "create one job per model")

    async def GetEvaluation(self, request: pb.GetEvaluationRequest, context: Any) -> NoReturn:
        """For later."""
        raise unimplemented("EvaluationService.GetEvaluation", "create one job per model")

    async def ListEvaluations(self, request: pb.ListEvaluationsRequest, context: Any) -> NoReturn:
        """For later."""
        raise unimplemented("EvaluationService.ListEvaluations", "create one job per model")

    async def CancelEvaluation(self, request: pb.CancelEvaluationRequest, context: Any) -> NoReturn:
        """For later."""
        raise unimplemented("EvaluationService.CancelEvaluation", "create one job per model")
