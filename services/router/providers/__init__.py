"""The adapters, by the name that the catalog gives as a provider's `adapter`. One file, one line, one test file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import grpc.aio

from services.router.providers.base import Account, Provider
from services.router.providers.http import HttpClient
from services.router.providers.imagemesh import OwnEngine
from services.router.providers.openai import OpenAIImages


@dataclass(frozen=True)
class Connections:
    """What adapters share."""

    http: HttpClient
    inference: grpc.aio.Channel


ADAPTERS: Mapping[str, Callable[[Account, Connections], Provider]] = {
    "imagemesh": lambda _, shared: OwnEngine(shared.inference),
    "openai": lambda account, shared: OpenAIImages(account, shared.http),
}
