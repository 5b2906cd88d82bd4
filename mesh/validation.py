"""Validation as tables: each message has a tuple of rules, and one error names every field that broke one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from mesh.errors import FieldViolation, InvalidArgument, Unimplemented

UNSET: Final = object()


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
        if (value := _value(message, rule.field)) is not UNSET and not rule.ok(value)
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
        if _is_set(message, field):
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


@dataclass(frozen=True, slots=True)
class _Hop:
    """One name of a dotted path, and whether the field can be unset."""

    name: str
    has_presence: bool


@lru_cache(maxsize=4096)
def _hops(descriptor: Descriptor, path: str) -> tuple[_Hop, ...]:
    name, _, rest = path.partition(".")
    field = descriptor.fields_by_name[name]
    first = _Hop(name, field.has_presence)
    return (first, *_hops(field.message_type, rest)) if rest and field.message_type else (first,)


def _value(message: Message, path: str) -> Any:
    """The value at `path`, or UNSET where a field with presence on the way is unset."""
    value: Any = message
    for hop in _hops(message.DESCRIPTOR, path):
        if hop.has_presence and not value.HasField(hop.name):
            return UNSET
        value = getattr(value, hop.name)
    return value


def _is_set(message: Message, path: str) -> bool:
    """Set at all where the field has presence, else not empty."""
    value = _value(message, path)
    if value is UNSET:
        return False
    return True if _hops(message.DESCRIPTOR, path)[-1].has_presence else bool(value)
