"""Templates: declared in the contract, for later."""

from __future__ import annotations

from typing import Any, NoReturn

from imagemesh.router.v1 import template_service_pb2 as pb
from imagemesh.router.v1 import template_service_pb2_grpc

from mesh.errors import unimplemented


class TemplateService(template_service_pb2_grpc.TemplateServiceServicer):
    """Every rpc answers UNIMPLEMENTED."""

    async def SetTemplate(self, request: pb.SetTemplateRequest, context: Any) -> NoReturn:
        """For later."""
        raise unimplemented("TemplateService.SetTemplate", "send the rendered text as `prompt`")

    async def GetTemplate(self, request: pb.GetTemplateRequest, context: Any) -> NoReturn:
        """For later."""
        raise unimplemented("TemplateService.GetTemplate", "send the rendered text as `prompt`")

    async def ListTemplates(self, request: pb.ListTemplatesRequest, context: Any) -> NoReturn:
        """For later."""
        raise unimplemented("TemplateService.ListTemplates", "send the rendered text as `prompt`")

    async def RenderTemplate(self, request: pb.RenderTemplateRequest, context: Any) -> NoReturn:
        """For later."""
        raise unimplemented("TemplateService.RenderTemplate", "send the rendered text as `prompt`")

    async def DeleteTemplate(self, request: pb.DeleteTemplateRequest, context: Any) -> NoReturn:
        """For later."""
        raise unimplemented("TemplateService.DeleteTemplate", "send the rendered text as `prompt`")
