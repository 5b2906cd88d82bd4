"""Azure AI Foundry: OpenAI's images API on Microsoft's two surfaces, and FLUX beside it.

    v1 (default)   {resource}/openai/v1/images/…?api-version=preview; the body's `model` is the deployment's name
    classic        {resource}/openai/deployments/{deployment}/images/…?api-version=2025-04-01-preview
    flux-1         FLUX-1.1-pro and FLUX.1-Kontext-pro, as `classic`
    flux-2         {resource}/providers/blackforestlabs/v1/{model}?api-version=preview, with fields of its own

`endpoint` is the resource's address (`https://NAME.openai.azure.com`). A deployment pins the model's version; the API
cannot. Settings: `api_version` instead of the surface's own, and those of `openai`. An account whose secrets have a
`client_secret` signs in with Entra ID (settings `tenant_id`, `client_id`) instead of sending a key. Source: Microsoft's
"How to use image generation models" for Foundry; FLUX's fields and answer are as LiteLLM knows them.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from services.router.providers.azure_tokens import CLIENT_SECRET, EntraTokens
from services.router.providers.base import Account, Capabilities
from services.router.providers.http import HttpClient
from services.router.providers.openai import OpenAIImages, Surface
from services.router.providers.openai_dialects import AZURE_DIALECTS

DEFAULT_VARIANT = "v1"
V1_VERSION, CLASSIC_VERSION = "preview", "2025-04-01-preview"
BY_DEPLOYMENT = frozenset({"classic", "flux-1"})
"""Variants whose address names the model."""


def capabilities(variant: str) -> Capabilities:
    """What a variant can do.

    Raises:
        KeyError: there is no such variant.
    """
    return AZURE_DIALECTS[variant or DEFAULT_VARIANT].capabilities


class AzureImages(OpenAIImages):
    """The adapter."""

    def __init__(self, account: Account, http: HttpClient) -> None:
        """`account.variant` is a key of `AZURE_DIALECTS`, `v1` when empty."""
        variant = account.variant or DEFAULT_VARIANT
        super().__init__(account, http, AZURE_DIALECTS[variant], surface_of(account, variant, http))


def surface_of(account: Account, variant: str, http: HttpClient) -> Surface:
    """Addresses of a variant, and how Azure knows us."""
    classic = variant in BY_DEPLOYMENT
    signs_in = bool(account.secret(CLIENT_SECRET))
    fixed = {} if signs_in else {"api-key": account.api_key.get_secret_value()}
    return Surface(
        address=_addresses(account, classic),
        headers=lambda client_id: {**fixed, "x-ms-client-request-id": client_id},
        names_model=not classic,
        tokens=EntraTokens(account, http) if signs_in else None,
    )


def _addresses(account: Account, classic: bool) -> Callable[[str, str], str]:
    base = account.base_url.rstrip("/")
    version = account.settings.get("api_version") or (CLASSIC_VERSION if classic else V1_VERSION)

    def address(path: str, model: str) -> str:
        return f"{base}/{_path(path, model, classic)}?api-version={quote(version, safe='')}"

    return address


def _path(path: str, model: str, classic: bool) -> str:
    if "{model}" in path:
        return path.format(model=quote(model.lower().replace(".", "-"), safe=""))
    if not classic:
        return f"openai/v1/{path}"
    return f"openai/deployments/{quote(model, safe='')}/{path}" if model else f"openai/{path}"
