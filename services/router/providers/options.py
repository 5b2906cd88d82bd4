"""What adapters take of `provider_options`, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OptionRule:
    """One key of `provider_options` that an adapter takes."""

    kind: type
    """`str`, `bool`, `int` or `float`."""
    allowed: tuple[str, ...] = ()
    """Values of a text; empty: any text of up to 200 characters."""
    low: float = 0.0
    """Least number."""
    high: float = 0.0
    """Greatest number."""

    def takes(self, value: object) -> bool:
        """Whether `value` may be sent."""
        if self.kind in (int, float):
            number = isinstance(value, int if self.kind is int else int | float) and not isinstance(value, bool)
            return number and self.low <= float(value) <= self.high  # type: ignore[arg-type]
        if self.kind is str and isinstance(value, str):
            return value in self.allowed if self.allowed else 0 < len(value) <= 200
        return isinstance(value, self.kind)

    @property
    def description(self) -> str:
        """What is taken, for the caller."""
        if self.allowed:
            return "one of " + ", ".join(self.allowed)
        if self.kind in (int, float):
            return f"a {'whole ' if self.kind is int else ''}number from {self.low:g} to {self.high:g}"
        return "true or false" if self.kind is bool else "a text of 1 to 200 characters"
