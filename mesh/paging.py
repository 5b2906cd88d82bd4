"""Opaque page tokens: a position in a list, bound to the list and filter it came from."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json

from mesh.errors import FieldViolation, InvalidArgument

Position = tuple[str | int, ...]


def encode_token(position: Position, scope: str) -> str:
    """The token for the page after `position`. `scope` names the list, tenant and filter."""
    body = json.dumps([_digest(scope), *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")


def decode_token(token: str, scope: str, kinds: tuple[type[str | int], ...] = (str,)) -> Position:
    """The position inside `token`, made of `kinds`; InvalidArgument (PAGE_TOKEN_INVALID) when it is of another list."""
    try:
        padded = token + "=" * (-len(token) % 4)
        digest, *position = json.loads(base64.urlsafe_b64decode(padded.encode("ascii")))
    except (binascii.Error, ValueError, TypeError, RecursionError) as error:
        raise _refused() from error
    if digest != _digest(scope) or tuple(map(type, position)) != kinds or not all(map(_storable, position)):
        raise _refused()
    return tuple(position)


def page_size(requested: int, default: int = 50, most: int = 200) -> int:
    """The number of rows to return: `default` when 0 was asked, at most `most`; negative is refused."""
    if requested < 0:
        fix = "must be 0 (the default) or more"
        raise InvalidArgument(f"page_size: {fix}", violations=(FieldViolation("page_size", fix),))
    return min(requested or default, most)


def _storable(part: str | int) -> bool:
    """Whether a database can compare it: 64 bits, or text of whole characters without NUL."""
    if isinstance(part, int):
        return -(2**63) <= part < 2**63
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in part)


def _digest(scope: str) -> str:
    return hashlib.sha256(scope.encode()).hexdigest()[:12]


def _refused() -> InvalidArgument:
    fix = "use the token of the page before, with the same filter"
    return InvalidArgument(
        f"page_token: {fix}", reason="PAGE_TOKEN_INVALID", violations=(FieldViolation("page_token", fix),)
    )
