"""Client of an imagemesh: `imagemesh.Client(target, api_key).generate("a red fox").images[0].save("fox.png")`.

The generated stubs lie beside it (`imagemesh.router.v1` and others). Names are loaded on first use, so that a service
that needs one stub does not load the client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagemesh.aio import AsyncClient
    from imagemesh.calls import Connection
    from imagemesh.client import Client
    from imagemesh.errors import ImagemeshError
    from imagemesh.generation import Options
    from imagemesh.results import JobResult, Picture

_WHERE = {
    "AsyncClient": "imagemesh.aio",
    "Client": "imagemesh.client",
    "Connection": "imagemesh.calls",
    "ImagemeshError": "imagemesh.errors",
    "JobResult": "imagemesh.results",
    "Options": "imagemesh.generation",
    "Picture": "imagemesh.results",
}

__all__ = ["AsyncClient", "Client", "Connection", "ImagemeshError", "JobResult", "Options", "Picture"]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'imagemesh' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
