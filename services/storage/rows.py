"""Rows of the table `assets` as domain values, and back. Pure."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from services.storage.assets import Asset, Content, Kind, Provenance, State, Withdrawal

CONTENT = tuple(field.name for field in fields(Content))
PROVENANCE = tuple(field.name for field in fields(Provenance))


def asset_of(row: sa.Row[Any]) -> Asset:
    """The asset in a row of the table."""
    values = dict(row._mapping)
    content = Content(**{name: values.pop(name) for name in CONTENT})
    provenance = Provenance(**{name: values.pop(name) for name in PROVENANCE})
    kind, state = Kind(values.pop("kind")), State(values.pop("state"))
    withdrawn = Withdrawal(values.pop("withdrawn"))
    return Asset(kind=kind, state=state, withdrawn=withdrawn, content=content, provenance=provenance, **values)


def asset_values(asset: Asset) -> dict[str, Any]:
    """The columns of an asset."""
    values = dict(vars(asset))
    return {**vars(values.pop("content")), **vars(values.pop("provenance")), **values}
