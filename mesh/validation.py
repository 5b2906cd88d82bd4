"""Validation as tables: each message has a tuple of rules, and one error names every field that broke one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from mesh.errors import FieldViolation, InvalidArgument, Unimplemented


@dataclass(frozen=True)
class Rule:
    """One demand on one field. `field` may be dotted; optional fields and submessages are checked only when set."""

    field: str
    ok: Callable[[Any], bool]
    fix: str


def check(message: Message, rules: Iterable[Rule], prefix: str = "") -> None:
    """Raises one InvalidArgument that lists every violated rule."""
    violations = [
        FieldViolation(prefix + rule.field, rule.fix)
        for rule in rules
        if not all(rule.ok(value) for value in _values(message, rule.field))
    ]
    refuse(violations)


def refuse(violations: Iterable[FieldViolation]) -> None:
    """Raises InvalidArgument when there is any violation."""
    found = tuple(violations)
    if found:
        raise InvalidArgument("; ".join(f"{v.field}: {v.description}" for v in found), violations=found)


def refuse_set(message: Message, later: Mapping[str, str], prefix: str = "") -> None:
    """Raises Unimplemented for the first field of `later` that is set; its value says what to do instead."""
    for field, instead in later.items():
        if any(_is_set(value) for value in _values(message, field)):
            path = prefix + field
            text = f"{path} belongs to a later version of imagemesh: {instead}"
            raise Unimplemented(text, violations=(FieldViolation(path, instead),), metadata={"field": path})


def length(low: int, high: int) -> Callable[[Any], bool]:
    """Between `low` and `high` characters, bytes or elements."""
    return lambda value: low <= len(value) <= high


def between(low: float, high: float) -> Callable[[Any], bool]:
    """A number from `low` to `high`, both included; NaN fails."""
    return lambda value: bool(low <= value <= high)


def matches(pattern: str) -> Callable[[Any], bool]:
    """A string that the regular expression matches whole."""
    compiled = re.compile(pattern)
    return lambda value: compiled.fullmatch(value) is not None


def one_of(*allowed: object) -> Callable[[Any], bool]:
    """One of the listed values."""
    return lambda value: value in allowed


def _values(message: Message, path: str) -> list[Any]:
    """The values at `path`; none where a field with presence on the way is unset."""
    head, _, rest = path.partition(".")
    descriptor = message.DESCRIPTOR.fields_by_name[head]
    if descriptor.has_presence and not message.HasField(head):
        return []
    value = getattr(message, head)
    return _values(value, rest) if rest else [value]


def _is_set(value: Any) -> bool:
    return True if isinstance(value, Message) else bool(value)
