"""API keys on the wire."""

from __future__ import annotations

import re

from imagemesh.router.v1 import api_key_pb2, api_key_service_pb2
from imagemesh.type.v1 import access_pb2

from mesh.validation import Rule, between, check, length, matches
from services.router import keys, wire
from services.router.keys import ApiKey, KeyTerms
from services.router.money import Money
from services.router.wire_rules import NAME

KEY_ROLES = frozenset(access_pb2.Role.Value(f"ROLE_{name}") for name in keys.KEY_ROLES)
KEY_ID = matches(r"key_[0-9a-z]{26}")

MODEL = re.compile(NAME.pattern + r"(\*|@[A-Za-z0-9_./:-]{1,100})?")
MODEL_FIX = "at most 64 model ids, each with `@version` or a final `*` if need be"

CREATE_RULES = (
    Rule("tenant", matches(r"[a-z0-9][a-z0-9-]{0,62}"), "1 to 63 characters of a-z 0-9 -, not beginning with -"),
    Rule("display_name", wire.plain(0, 200), "at most 200 plain characters"),
    Rule("roles", lambda roles: len(roles) > 0 and KEY_ROLES.issuperset(roles), "some of CALLER, OPERATOR, REVIEWER"),
    Rule("user", wire.plain(0, 200), "at most 200 plain characters"),
    Rule("models", lambda names: len(names) <= 64 and all(map(MODEL.fullmatch, names)), MODEL_FIX),
    Rule("spend_cap", lambda money: wire.money_ok(money, least=0), "zero or more, with a currency code"),
    Rule("spend_cap.currency_code", lambda code: code == "USD", "the catalog's prices are in USD"),
    Rule("expire_time", wire.time_ok, "a time from 1970 to 9999"),
)
LIST_RULES = (
    Rule("tenant", matches(r"([a-z0-9][a-z0-9-]{0,62})?"), "a tenant, or empty for all"),
    Rule("page_token", length(0, 1024), "use the token of the page before"),
)
ROTATE_RULES = (
    Rule("key_id", KEY_ID, "name the key, such as key_01h…"),
    Rule("overlap.seconds", between(0, 7 * 86_400), "0 to 7 days"),
    Rule("overlap.nanos", between(0, 999_999_999), "0 to 999,999,999"),
)
REVOKE_RULES = (Rule("key_id", KEY_ID, "name the key, such as key_01h…"),)


def read_terms(request: api_key_service_pb2.CreateApiKeyRequest) -> KeyTerms:
    """Validates CreateApiKey and reads it."""
    check(request, CREATE_RULES)
    return KeyTerms(
        tenant=request.tenant,
        roles=frozenset(wire.enum_name(access_pb2.Role, role) for role in request.roles),
        name=request.display_name,
        user=request.user,
        models=tuple(request.models),
        cap_micros=wire.money_from_proto(request.spend_cap).micros if request.HasField("spend_cap") else None,
        expire_time=wire.time_from_proto(request.expire_time) if request.HasField("expire_time") else None,
    )


def key_to_proto(key: ApiKey) -> api_key_pb2.ApiKey:
    """The key as operators see it."""
    terms = key.terms
    return api_key_pb2.ApiKey(
        key_id=key.key_id,
        tenant=terms.tenant,
        display_name=terms.name,
        roles=[access_pb2.Role.Value(f"ROLE_{role}") for role in sorted(terms.roles)],
        user=terms.user,
        models=terms.models,
        spend_cap=None if terms.cap_micros is None else wire.money_to_proto(Money(terms.cap_micros)),
        state=wire.enum_number(api_key_pb2.ApiKeyState, key.state),
        create_time=wire.time_to_proto(key.create_time),
        expire_time=wire.time_to_proto(terms.expire_time),
        revoke_time=wire.time_to_proto(key.revoke_time),
    )
