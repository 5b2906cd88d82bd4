"""The contract and the services as Python finds them: every declared service, and the class that serves it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from mesh.errors import Unimplemented
from services.inference.service import InferenceService
from services.moderation.audit_service import AuditService
from services.moderation.moderation_service import ModerationService
from services.moderation.review_service import ReviewService
from services.router.api_key_service import ApiKeyService
from services.router.catalog_service import CatalogService
from services.router.evaluation_service import EvaluationService
from services.router.job_service import JobService
from services.router.template_service import TemplateService
from services.router.usage_service import UsageService
from services.router.webhook_service import WebhookService
from services.storage.service import StorageService

ROOT = Path(__file__).resolve().parents[2]
STUBS = ROOT / "clients" / "python"


def bare(kind: type[Any]) -> Callable[[], Any]:
    """Makes an instance without calling its constructor."""
    return lambda: object.__new__(kind)


SERVED: Mapping[str, Callable[[], Any]] = {
    "imagemesh.inference.v1.InferenceService": bare(InferenceService),
    "imagemesh.moderation.v1.AuditService": bare(AuditService),
    "imagemesh.moderation.v1.ModerationService": bare(ModerationService),
    "imagemesh.moderation.v1.ReviewService": bare(ReviewService),
    "imagemesh.router.v1.ApiKeyService": bare(ApiKeyService),
    "imagemesh.router.v1.CatalogService": bare(CatalogService),
    "imagemesh.router.v1.EvaluationService": bare(EvaluationService),
    "imagemesh.router.v1.JobService": bare(JobService),
    "imagemesh.router.v1.TemplateService": bare(TemplateService),
    "imagemesh.router.v1.UsageService": bare(UsageService),
    "imagemesh.router.v1.WebhookService": bare(WebhookService),
    "imagemesh.storage.v1.StorageService": bare(StorageService),
}


def declared() -> Iterator[ServiceDescriptor]:
    """Every service of `protos/`, by its generated module."""
    for path in sorted((STUBS / "imagemesh").glob("*/v1/*_service_pb2.py")):
        module = importlib.import_module(".".join(path.relative_to(STUBS).with_suffix("").parts))
        yield from module.DESCRIPTOR.services_by_name.values()


def servicer(service: ServiceDescriptor) -> Any:
    """What serves it: an instance that was never initialised, so that whatever is built cannot work."""
    return SERVED[service.full_name]()


async def refuses(servicer: Any, method: MethodDescriptor) -> bool:
    """Whether the rpc raises Unimplemented (NOT_IMPLEMENTED) before it looks at anything."""
    answer = getattr(servicer, method.name)(GetMessageClass(method.input_type)(), None)
    try:
        if inspect.isasyncgen(answer):
            await anext(answer)
        else:
            await answer
    except Unimplemented as refused:
        return refused.reason == "NOT_IMPLEMENTED" and method.name in refused.message
    except Exception:  # noqa: BLE001  # a built rpc misses what its constructor would have given it
        return False
    return False
