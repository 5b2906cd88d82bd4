"""Every hosted plug-in beside the strict fake of its vendor, so that one suite runs on all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from services.moderation.classifiers import Caller, Plugged, plug
from services.moderation.plug_ins import PlugIn, PlugInOptions
from services.moderation.verdicts import Category
from tests.moderation.fakes.azure_content_safety import FakeAzureContentSafety
from tests.moderation.fakes.chat_guard import MODEL, FakeChatGuard
from tests.moderation.fakes.google_vision import FakeGoogleVision
from tests.moderation.fakes.huggingface import FakeHuggingFace
from tests.moderation.fakes.openai import FakeOpenAi
from tests.moderation.fakes.rekognition import ACCESS_KEY, FakeRekognition
from tests.moderation.fakes.vendor import KEY, FakeVendor

NSFW = {"nsfw": {"category": "SEXUAL", "weight": 1.0}}


@dataclass(frozen=True)
class Case:
    """A plug-in: its fake, its options besides name and timeout, and a label with what it counts for."""

    kind: str
    fake: Callable[[], FakeVendor]
    label: str
    category: Category
    content: tuple[str, ...] = ("texts", "pictures")
    path: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    least: float = 0.85
    """The score that a label of .95 has at least."""


CASES = {
    "openai": Case("openai", FakeOpenAi, "violence/graphic", Category.GORE),
    "google-vision": Case("google-vision", FakeGoogleVision, "adult", Category.SEXUAL, ("pictures",)),
    "rekognition": Case(
        "rekognition",
        FakeRekognition,
        "Blood & Gore",
        Category.GORE,
        ("pictures",),
        options={"region": "eu-west-1"},
        secrets={"access_key_id": ACCESS_KEY},
    ),
    "azure-content-safety": Case("azure-content-safety", FakeAzureContentSafety, "Hate", Category.HATE),
    "chat-guard": Case("chat-guard", FakeChatGuard, "S9", Category.WEAPONS, path="/v1", options={"model": MODEL}),
    "huggingface texts": Case(
        "huggingface",
        FakeHuggingFace,
        "nsfw",
        Category.SEXUAL,
        ("texts",),
        "/endpoint",
        {"labels": NSFW},
    ),
    "huggingface flat texts": Case(
        "huggingface",
        lambda: FakeHuggingFace(nested=False),
        "nsfw",
        Category.SEXUAL,
        ("texts",),
        "/endpoint",
        {"labels": NSFW},
    ),
    "huggingface pictures": Case(
        "huggingface",
        FakeHuggingFace,
        "nsfw",
        Category.SEXUAL,
        ("pictures",),
        "/endpoint",
        {"labels": NSFW},
    ),
}


@dataclass(frozen=True)
class Plug:
    """A plug-in that is connected to its fake."""

    plugged: Plugged
    fake: FakeVendor
    plug_in: PlugIn


def plug_in_of(case: Case, base_url: str, key: str = KEY, **options: Any) -> PlugIn:
    given = PlugInOptions(
        name="plug", kind=case.kind, base_url=base_url + case.path, content=case.content, **{**case.options, **options}
    )
    return PlugIn(given, SecretStr(key), {name: SecretStr(value) for name, value in case.secrets.items()})


@asynccontextmanager
async def plugged_in(case: Case, key: str = KEY, **options: Any) -> AsyncIterator[Plug]:
    fake = case.fake()
    runner = await fake.start()
    caller = Caller()
    plug_in = plug_in_of(case, fake.base_url, key, **options)
    try:
        yield Plug(plug(plug_in, caller), fake, plug_in)
    finally:
        await caller.close()
        await runner.cleanup()
