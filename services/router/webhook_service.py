"""Webhooks: declared in the contract, for later."""

from __future__ import annotations

from typing import Any, NoReturn

from imagemesh.router.v1 import webhook_service_pb2 as pb
from imagemesh.router.v1 import webhook_service_pb2_grpc

from mesh.errors import unimplemented


class WebhookService(webhook_service_pb2_grpc.WebhookServiceServicer):
    """Every rpc answers UNIMPLEMENTED."""

    async def ListDeliveries(self, request: pb.ListDeliveriesRequest, context: Any) -> NoReturn:
        """For later."""
        raise unimplemented("WebhookService.ListDeliveries", "use JobService.WatchJob")

    async def RedeliverWebhook(self, request: pb.RedeliverWebhookRequest, context: Any) -> NoReturn:
        """For later."""
        raise unimplemented("WebhookService.RedeliverWebhook", "use JobService.WatchJob")

    async def RotateWebhookSecret(self, request: pb.RotateWebhookSecretRequest, context: Any) -> NoReturn:
        """For later."""
        raise unimplemented("WebhookService.RotateWebhookSecret", "use JobService.WatchJob")
