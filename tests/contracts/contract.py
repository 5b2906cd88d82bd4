"""The contract and the services as Python finds them: every declared service, and the class that serves it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from mesh.errors import Unimplemented

ROOT = Path(__file__).resolve().parents[2]
STUBS = ROOT / "clients" / "python"


def declared() -> Iterator[ServiceDescriptor]:
    """Every service of `protos/`, by its generated module."""
    for path in sorted((STUBS / "imagemesh").glob("*/v1/*_service_pb2.py")):
        module = importlib.import_module(".".join(path.relative_to(STUBS).with_suffix("").parts))
        yield from module.DESCRIPTOR.services_by_name.values()


def servicer(service: ServiceDescriptor) -> type[Any]:
    """The class under `services/` that serves it: the most derived subclass of its generated servicer."""
    package = service.full_name.split(".")[1]
    found = [
        candidate
        for module in _edges(package)
        for candidate in vars(module).values()
        if inspect.isclass(candidate) and f"{service.name}Servicer" in {base.__name__ for base in candidate.__mro__[1:]}
    ]
    derived = [kind for kind in set(found) if not any(other is not kind and issubclass(other, kind) for other in found)]
    assert len(derived) == 1, f"{service.full_name} is served by {derived}"
    return derived[0]


def _edges(package: str) -> Iterator[ModuleType]:
    for path in sorted((ROOT / "services" / package).glob("*service.py")):
        yield importlib.import_module(f"services.{package}.{path.stem}")


async def refuses(kind: type[Any], method: MethodDescriptor) -> bool:
    """Whether the rpc raises Unimplemented (NOT_IMPLEMENTED) before it looks at anything.

    It is called on an instance that was never initialised: whatever is built fails in some other way.
    """
    request = GetMessageClass(method.input_type)()
    answer = getattr(object.__new__(kind), method.name)(request, None)
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
