"""The adapters in the contract suite, one line each, and the fakes that can run as processes."""

from __future__ import annotations

from collections.abc import Mapping

from tests.router.fakes.a1111 import A1111Fake
from tests.router.fakes.bedrock import BedrockFake
from tests.router.fakes.bfl import BflFake
from tests.router.fakes.comfyui import ComfyUiFake
from tests.router.fakes.fal import FalFake
from tests.router.fakes.firefly import FireflyFake
from tests.router.fakes.google import GoogleFake
from tests.router.fakes.huggingface import HuggingFaceFake
from tests.router.fakes.ideogram import IdeogramFake
from tests.router.fakes.modelslab import ModelsLabFake
from tests.router.fakes.nim import NimFake
from tests.router.fakes.replicate import ReplicateFake
from tests.router.fakes.stability import StabilityFake
from tests.router.fakes.vendor import VendorFake
from tests.router.providers.harness_a1111 import A1111Harness
from tests.router.providers.harness_azure import AzureHarness, ClassicHarness, FoundryFlux1Harness, FoundryFlux2Harness
from tests.router.providers.harness_base import Harness
from tests.router.providers.harness_bedrock import BedrockHarness
from tests.router.providers.harness_bfl import (
    BflHarness,
    Flux2Harness,
    Flux3Harness,
    Flux11Harness,
    KontextHarness,
    UltraHarness,
)
from tests.router.providers.harness_comfyui import ComfyUiHarness
from tests.router.providers.harness_fal import FalHarness
from tests.router.providers.harness_firefly import FireflyHarness, FireflyImage5Harness
from tests.router.providers.harness_google import GeminiHarness, ImagenHarness, VertexHarness
from tests.router.providers.harness_huggingface import EndpointHarness, RouterHarness
from tests.router.providers.harness_ideogram import IdeogramHarness, IdeogramV1Harness
from tests.router.providers.harness_imagemesh import OwnEngineHarness
from tests.router.providers.harness_modelslab import ModelsLabHarness
from tests.router.providers.harness_nim import HostedNimHarness, NimHarness
from tests.router.providers.harness_openai import (
    GptImageHarness,
    LocalAIHarness,
    OpenAIHarness,
    SglangHarness,
    StreamedHarness,
    VllmOmniHarness,
)
from tests.router.providers.harness_replicate import DeploymentHarness, ReplicateHarness
from tests.router.providers.harness_stability import StabilityHarness, StabilityResultsHarness

HARNESSES: Mapping[str, type[Harness]] = {
    "a1111": A1111Harness,
    "azure": AzureHarness,
    "azure-classic": ClassicHarness,
    "azure-flux-1": FoundryFlux1Harness,
    "azure-flux-2": FoundryFlux2Harness,
    "bedrock": BedrockHarness,
    "bfl": BflHarness,
    "bfl-1.1": Flux11Harness,
    "bfl-flux-2": Flux2Harness,
    "bfl-flux-3": Flux3Harness,
    "bfl-kontext": KontextHarness,
    "bfl-ultra": UltraHarness,
    "comfyui": ComfyUiHarness,
    "fal": FalHarness,
    "firefly": FireflyHarness,
    "firefly-image5": FireflyImage5Harness,
    "google": GeminiHarness,
    "google-imagen": ImagenHarness,
    "google-vertex": VertexHarness,
    "huggingface": RouterHarness,
    "huggingface-endpoint": EndpointHarness,
    "ideogram": IdeogramHarness,
    "ideogram-v1": IdeogramV1Harness,
    "imagemesh": OwnEngineHarness,
    "nim": NimHarness,
    "nim-hosted": HostedNimHarness,
    "openai-compatible": OpenAIHarness,
    "openai-gpt-image": GptImageHarness,
    "openai-gpt-image-streamed": StreamedHarness,
    "openai-localai": LocalAIHarness,
    "openai-sglang": SglangHarness,
    "openai-vllm-omni": VllmOmniHarness,
    "replicate": ReplicateHarness,
    "replicate-deployment": DeploymentHarness,
    "stability": StabilityHarness,
    "stability-results": StabilityResultsHarness,
    "modelslab": ModelsLabHarness,
}
"""By the adapter's name in `ADAPTERS`, and a variant after the first dash."""

FAKES: Mapping[str, type[VendorFake]] = {
    "a1111": A1111Fake,
    "bedrock": BedrockFake,
    "bfl": BflFake,
    "comfyui": ComfyUiFake,
    "fal": FalFake,
    "firefly": FireflyFake,
    "google": GoogleFake,
    "huggingface": HuggingFaceFake,
    "ideogram": IdeogramFake,
    "nim": NimFake,
    "replicate": ReplicateFake,
    "stability": StabilityFake,
    "modelslab": ModelsLabFake,
}
"""By vendor; `python -m tests.router.fakes.run VENDOR`."""
