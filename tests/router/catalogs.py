"""Catalogs for tests, made from YAML as an operator writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from services.router.catalog import Catalog
from services.router.catalog_file import load_catalog

PRICE = {"unit": "IMAGE", "amounts": {"*": "0.02"}, "source": "test", "date": "2026-11-20"}
CAPABILITIES: dict[str, Any] = {
    "sizes": ["1024x1024", "1536x1024"],
    "default_size": "1024x1024",
    "count_per_call": 4,
    "formats": ["png", "webp"],
}


def provider(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "kind": "openai", "endpoint": "https://images.example/v1", **fields}


def route(at: str, amount: str = "0.02", **fields: Any) -> dict[str, Any]:
    capabilities = {**CAPABILITIES, **fields.pop("capabilities", {})}
    price = {**PRICE, "amounts": {"*": amount}}
    return {"provider": at, "provider_model": "m-1", "capabilities": capabilities, "price": price, **fields}


def model(name: str, *routes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": name, "routes": list(routes), **fields}


def document(providers: list[dict[str, Any]], models: list[dict[str, Any]]) -> dict[str, Any]:
    return {"providers": providers, "models": models}


def write(folder: Path, content: dict[str, Any] | str) -> Path:
    path = folder / "catalog.yaml"
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, content: dict[str, Any] | str, environment: Mapping[str, str] | None = None) -> Catalog:
    return load_catalog(write(folder, content), environment or {})
