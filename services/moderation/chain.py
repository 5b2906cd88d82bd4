"""The hashes that make the audit a chain; pure.

A record has two parts. Its *personal* part is what erasure takes away: the user, the judged text with the SHA-256 of
it (a short text can be found again from its hash), and notes of people. Everything else are its *facts*.

    personal = SHA-256(salt, personal part)     salt: 16 random bytes of this record alone
    digest   = SHA-256(facts, personal)
    chain_n  = SHA-256(chain_(n-1), digest_n)   chain_0 = GENESIS

Erasure empties the personal part and the salt and keeps `personal`. After it the facts are still bound by `digest`, and
the record's place by `chain`, so both stay verifiable: what was decided, when, by whom, under which policy. What was
erased cannot be found from `personal` any more, since nobody has the salt: it had 128 bits. (A job's verdict ids are
facts, and derive from its texts: they recognise a text that somebody has.)
That a personal part is gone says nothing of who took it; so an erased record names the record of the erasure
(`erased_by`), which is in the chain itself and says how many records it emptied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

GENESIS = sha256(b"imagemesh audit chain 1").hexdigest()
PERSONAL = ("end_user", "text", "note")
FACTS = (
    "sequence",
    "record_id",
    "tenant",
    "action",
    "actor",
    "trace_id",
    "verdict_id",
    "decision",
    "scores",
    "policy_id",
    "policy_version",
    "policy_etag",
    "model_versions",
    "length",
    "job_id",
    "asset_id",
    "create_us",
)

Row = Mapping[str, Any]


def hash_is_personal(row: Row) -> bool:
    """Whether `sha256` is one of a text; those of pictures are facts, since blocked pictures are known by them."""
    return not row["asset_id"] and row["action"] != "IMAGE_JUDGED"


def personal_digest(row: Row) -> str:
    """Of the personal part with its salt; lower-case hex."""
    known = row["sha256"] if hash_is_personal(row) else ""
    return _digest([row["salt"], known, *(row[name] for name in PERSONAL)])


def record_digest(row: Row) -> str:
    """Of the facts and of `personal`; lower-case hex."""
    known = "" if hash_is_personal(row) else row["sha256"]
    return _digest([row["personal"], known, *(row[name] for name in FACTS)])


def link(previous: str, digest: str) -> str:
    """The chain's value after a record with `digest`."""
    return sha256(bytes.fromhex(previous) + bytes.fromhex(digest)).hexdigest()


def emptied(row: Row) -> dict[str, Any]:
    """The columns that erasure writes, but for `erased_by`."""
    return dict.fromkeys((*PERSONAL, "salt"), "") | ({"sha256": ""} if hash_is_personal(row) else {})


def _digest(parts: list[Any]) -> str:
    """No two different lists share these bytes: JSON marks where each part ends."""
    return sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()
