"""Protobuf ↔ domain values that every rpc of the router shares. Pure; each noun has its own `wire_<noun>.py`."""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from typing import Any, Final, TypeVar, overload

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money as MoneyMessage
from imagemesh.type.v1 import image_pb2

from services.router.money import Money
from services.router.specs import Size

Member = TypeVar("Member", bound=StrEnum)

ID: Final = r"[A-Za-z0-9_.:-]{1,128}"
CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x1f\x7f]")
NANOS_PER_MICRO: Final = 1000
US_PER_SECOND: Final = 1_000_000


def body_fingerprint(request: Message) -> bytes:
    """SHA-256 of the request without its `request_id`, maps sorted: equal for equal bodies."""
    body = type(request)()
    body.CopyFrom(request)
    body.ClearField("request_id")
    return hashlib.sha256(body.SerializeToString(deterministic=True)).digest()


def money_to_proto(money: Money) -> MoneyMessage:
    """Exact."""
    units, micros = divmod(abs(money.micros), US_PER_SECOND)
    sign = -1 if money.micros < 0 else 1
    return MoneyMessage(currency_code=money.currency, units=sign * units, nanos=sign * micros * NANOS_PER_MICRO)


def money_from_proto(message: MoneyMessage) -> Money:
    """Parts of a micro are dropped towards minus infinity: a bound never grows by being read."""
    micros = message.units * US_PER_SECOND + message.nanos // NANOS_PER_MICRO
    return Money(micros, message.currency_code)


def money_ok(message: MoneyMessage, *, least: int) -> bool:
    """Whether the message is a well-formed amount of at least `least` micros, at most 10^12 units."""
    formed = re.fullmatch("[A-Z]{3}", message.currency_code) and 0 <= message.nanos < 10**9
    return bool(formed) and 0 <= message.units <= 10**12 and money_from_proto(message).micros >= least


@overload
def time_to_proto(time_us: int) -> Timestamp: ...


@overload
def time_to_proto(time_us: int | None) -> Timestamp | None: ...


def time_to_proto(time_us: int | None) -> Timestamp | None:
    """Microseconds since 1970-01-01 UTC; None stays unset."""
    if time_us is None:
        return None
    seconds, micros = divmod(time_us, US_PER_SECOND)
    return Timestamp(seconds=seconds, nanos=micros * NANOS_PER_MICRO)


def time_from_proto(message: Timestamp) -> int:
    """Microseconds since 1970-01-01 UTC."""
    return message.seconds * US_PER_SECOND + message.nanos // NANOS_PER_MICRO


def time_ok(message: Timestamp) -> bool:
    """Whether the message is a time from 1970 to 9999."""
    return 0 <= message.seconds < 253_402_300_800 and 0 <= message.nanos < 10**9


def duration_to_proto(seconds: float) -> Duration:
    """To the microsecond."""
    whole, micros = divmod(round(seconds * US_PER_SECOND), US_PER_SECOND)
    return Duration(seconds=whole, nanos=micros * NANOS_PER_MICRO)


def duration_from_proto(message: Duration) -> float:
    """In seconds."""
    return message.seconds + message.nanos / 1e9


def size_to_proto(size: Size) -> image_pb2.ImageSize:
    """Width and height in pixels."""
    return image_pb2.ImageSize(width=size.width, height=size.height)


def enum_name(enum: Any, number: int) -> str:
    """A generated enum's value without prefix: `JobState`, 3 is `SUCCEEDED`. The number must be one of the enum's."""
    name: str = enum.Name(number)
    return name.removeprefix(enum_prefix(enum))


def enum_number(enum: Any, name: str) -> Any:
    """The number of a value named without prefix; the empty name is UNSPECIFIED."""
    return enum.Value(enum_prefix(enum) + (name or "UNSPECIFIED"))


def enum_prefix(enum: Any) -> str:
    """`JOB_STATE_` for `JobState`."""
    zero: str = enum.Name(0)
    return zero.removesuffix("UNSPECIFIED")


def read_enum(enum: Any, number: int, members: type[Member], default: Member) -> Member:
    """The domain's member of a generated enum's value; UNSPECIFIED is the default."""
    return members(enum_name(enum, number)) if number else default


def known(enum: Any) -> Any:
    """A check for rules: the value is one that this version of the contract has."""
    numbers = frozenset(enum.values())
    return lambda value: value in numbers


def plain(low: int, high: int) -> Any:
    """A check for rules: `low` to `high` characters, none of them a control character."""
    return lambda value: low <= len(value) <= high and not CONTROL_CHARACTERS.search(value)
