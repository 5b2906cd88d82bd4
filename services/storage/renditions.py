"""How a rendition is specified, in requests, in addresses, and as an order to make one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mesh.errors import FieldViolation
from services.storage.assets import FORMATS, Asset, Kind

MAX_SIDE = 4096
DEFAULT_QUALITY: Mapping[str, int] = {"webp": 80, "avif": 60, "jpeg": 85, "png": 0}
QUERY = re.compile(
    r"(?:w=(?P<w>[1-9][0-9]{0,3}))?&?(?:h=(?P<h>[1-9][0-9]{0,3}))?&?(?:fit=(?P<fit>[a-z]+))?&?"
    r"(?:f=(?P<f>[a-z]+))?&?(?:q=(?P<q>[1-9][0-9]{0,2}))?"
)


class Fit(StrEnum):
    """How a picture is laid into the wanted sides."""

    CONTAIN = "contain"
    COVER = "cover"
    FILL = "fill"


@dataclass(frozen=True)
class Order:
    """What to make. fit: `contain`, `cover` or `fill`. quality: 0 for png. marked: say that a model drew it."""

    width: int
    height: int
    fit: str
    format: str
    quality: int
    marked: bool

    @property
    def key(self) -> str:
        """The same for equal orders, at most 64 characters."""
        mark = "m" if self.marked else "u"
        return f"{self.width}x{self.height}.{self.fit}.{self.format}.{self.quality}.{mark}"


@dataclass(frozen=True)
class Spec:
    """A wanted rendition; zeros and the empty format mean as in the contract. The empty spec is the original."""

    width: int = 0
    height: int = 0
    fit: Fit = Fit.CONTAIN
    format: str = ""
    quality: int = 0

    @property
    def empty(self) -> bool:
        """True when the original is meant."""
        return self == Spec()

    @property
    def query(self) -> str:
        """The spec as it stands in an address; `spec_of` reads it back."""
        fit = "" if self.fit is Fit.CONTAIN else self.fit
        named = {"w": self.width, "h": self.height, "fit": fit, "f": self.format, "q": self.quality}
        return "&".join(f"{name}={value}" for name, value in named.items() if value)


def spec_of(query: str) -> Spec | None:
    """The spec in an address's query; None when it is not one that `Spec.query` writes."""
    found = QUERY.fullmatch(query)
    if found is None or found["fit"] not in (None, *Fit):
        return None
    width, height, quality = (int(found[name] or 0) for name in ("w", "h", "q"))
    spec = Spec(width, height, Fit(found["fit"] or Fit.CONTAIN), found["f"] or "", quality)
    return spec if spec.query == query and not violations(spec) else None


def violations(spec: Spec, prefix: str = "rendition.") -> list[FieldViolation]:
    """What is wrong with the spec, by field."""
    sides = f"must be 1 to {MAX_SIDE}, or 0 to follow from the other side"
    table = (
        ("width", 0 <= spec.width <= MAX_SIDE, sides),
        ("height", 0 <= spec.height <= MAX_SIDE, sides),
        ("fit", spec.fit is Fit.CONTAIN or (spec.width and spec.height), "COVER and FILL need width and height"),
        ("format", spec.format in ("", *FORMATS), f"must be empty or one of {', '.join(FORMATS)}"),
        ("quality", 0 <= spec.quality <= 100, "must be 1 to 100, or 0 for the format's default"),
        ("quality", not (spec.quality and spec.format == "png"), "PNG is lossless; leave quality at 0"),
    )
    return [FieldViolation(prefix + field, fix) for field, ok, fix in table if not ok]


def order_for(asset: Asset, spec: Spec) -> Order:
    """What to make, with every default filled in. Only what a model drew is marked as such."""
    target = spec.format or asset.content.format
    quality = 0 if target == "png" else spec.quality or DEFAULT_QUALITY[target]
    return Order(spec.width, spec.height, str(spec.fit), target, quality, marked=asset.kind is Kind.OUTPUT)
