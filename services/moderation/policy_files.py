"""Reads policies from YAML files; every mistake is told by file and key, all of a file together.

`default.yaml` is the default policy, `floor.yaml` beside it the floor, and `tenants/*.yaml` are tenants' own policies:
each holds only what differs from the default (`thresholds` and `lists` by key; a list that is null is left out).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from services.moderation.name_files import read_names
from services.moderation.names import NameIndex
from services.moderation.policies import FILE_VERSIONS, Floor, Policy, PolicyBook, PolicyDocument

FLOOR = Path(__file__).parent / "policies" / "floor.yaml"
MERGED = ("thresholds", "lists", "names")

D = TypeVar("D", bound=BaseModel)


class PolicyFileError(Exception):
    """A policy file that cannot be used; the text names the file and every mistake."""


def load_policies(
    default: Path, layers: Collection[str], floor: Path = FLOOR, names: NameIndex | None = None
) -> PolicyBook:
    """The book of the default file and of the tenants' files beside it; `layers` are those that this process has.

    names: the lists of names that policies may ask for. Default: those that come with the service.
    """
    names = names or read_names()
    base = _read(default)
    under = _validated(Floor, _read(floor), floor)
    documents = [_validated(PolicyDocument, base, default)]
    documents += [_tenant_document(base, path) for path in sorted((default.parent / "tenants").glob("*.yaml"))]
    for document in documents:
        _require_layers(document, layers)
        _require_names(document, names)
        if document.version > FILE_VERSIONS:
            raise PolicyFileError(f"policy {document.policy}: version: at most {FILE_VERSIONS} in a file")
    policies = [Policy(document=document, floor=under) for document in documents]
    try:
        return PolicyBook(policies, names)
    except ValueError as error:
        raise PolicyFileError(f"{default.parent}: {error}") from error


def _tenant_document(base: Mapping[str, Any], path: Path) -> PolicyDocument:
    own = _read(path)
    if not own.get("tenant"):
        raise PolicyFileError(f"{path}: tenant: required in a tenant's policy")
    for key in ("policy", "version"):
        if key not in own:
            raise PolicyFileError(f"{path}: {key}: required; a tenant's policy has its own")
    return _validated(PolicyDocument, merge(base, own), path)


def _require_layers(document: PolicyDocument, layers: Collection[str]) -> None:
    missing = sorted(set(document.required_layers) - set(layers))
    if missing:
        text = f"policy {document.policy}: required_layers: no {', '.join(missing)} here, only {', '.join(layers)}"
        raise PolicyFileError(text)


def _require_names(document: PolicyDocument, names: NameIndex) -> None:
    missing = sorted(set(document.names) - names.lists)
    if missing:
        text = f"policy {document.policy}: names: no {', '.join(missing)} here, only {', '.join(sorted(names.lists))}"
        raise PolicyFileError(text)


def merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The base with the tenant's keys over it."""
    merged = {**base, **own}
    for key in MERGED:
        if isinstance(own.get(key), Mapping):
            both = {**base.get(key, {}), **own[key]}
            merged[key] = {name: value for name, value in both.items() if value is not None}
    return merged


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PolicyFileError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise PolicyFileError(f"{path}: must be a mapping of keys to values")
    return document


def _validated(kind: type[D], document: Mapping[str, Any], path: Path) -> D:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors()]
        raise PolicyFileError("\n".join(f"{path}: {line}" for line in lines)) from error
