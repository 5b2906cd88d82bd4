"""Policies as messages and back; pure. A wrong document names every wrong field by its path in the message."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import duration_pb2
from google.protobuf.message import Message
from imagemesh.moderation.v1 import moderation_service_pb2 as service_pb2
from imagemesh.moderation.v1 import policy_pb2
from pydantic import ValidationError

from mesh.errors import FieldViolation, invalid
from mesh.validation import Rule, between, check, matches, refuse
from services.moderation.policies import CategoryThresholds, PolicyDocument
from services.moderation.policy_versions import State, Version
from services.moderation.verdicts import Category, Decision
from services.moderation.wire import CATEGORIES, category_out, decision_out

DOCUMENT_BYTES = 1024 * 1024
NAMES = "names/"  # before a list of names among the layers that are here
DAY_SECONDS = 86_400
LAST_SECOND = 253_402_300_799  # of the year 9999, as Timestamp has it
LISTS = 256
STATES = {policy_pb2.PolicyState.Value(f"POLICY_STATE_{state.name}"): state for state in State}
UNEVALUATED = {0: "ALLOW"} | {int(decision_out(d)): d.name for d in Decision}
REVIEW_DECISIONS = {0: "BLOCK"} | {int(decision_out(d)): d.name for d in Decision if d is not Decision.ALLOW}
FAILURE_MODES = {0: "CLOSED", policy_pb2.FAILURE_MODE_CLOSED: "CLOSED", policy_pb2.FAILURE_MODE_OPEN: "OPEN"}
TEXT_RETENTIONS = {0: "HASHED"} | {
    policy_pb2.TextRetention.Value(f"TEXT_RETENTION_{name}"): name for name in ("HASHED", "SCRUBBED", "PLAIN")
}
CONSEQUENCES = {0: "NONE"} | {
    policy_pb2.StrikeConsequence.Value(f"STRIKE_CONSEQUENCE_{name}"): name for name in ("NONE", "REVIEW", "BLOCK")
}
RENAMED = {"policy": "policy_id", "retention_days": "retention", "window_days": "window"}  # as the contract has them

_ID = matches(r"[a-z0-9][a-z0-9-]{0,63}")
_ID_FIX = "1 to 64 lower-case letters, digits and `-`"
_STATE_FIX = "LIVE, SHADOW, DRAFT or ARCHIVED"
POLICY_RULES = (
    Rule("policy_id", _ID, _ID_FIX),
    Rule("tenant", matches(r"[A-Za-z0-9_.:-]{0,64}"), "at most 64 letters, digits and the signs _.:-"),
    Rule("lists", lambda given: len(given) <= LISTS, f"at most {LISTS} lists"),
    Rule("review_decision", lambda given: given in REVIEW_DECISIONS, "FLAG, REVIEW or BLOCK"),
    Rule("failure_mode", lambda given: given in FAILURE_MODES, "a failure mode of the contract"),
    Rule("text_retention", lambda given: given in TEXT_RETENTIONS, "a text retention of the contract"),
    Rule("strikes.consequence", lambda given: given in CONSEQUENCES, "a consequence of the contract"),
    Rule("retention", lambda given: _whole_days(given), "whole days, 1 to 3,650"),
    Rule("strikes.categories", lambda given: set(given) <= set(CATEGORIES), "categories of the contract"),
    Rule("strikes.window", lambda given: _whole_days(given), "whole days, 1 to 3,650"),
)
STATE_RULES = (
    Rule("policy_id", _ID, "required, " + _ID_FIX),
    Rule("version", lambda given: given > 0, "required, from 1"),
    Rule("state", lambda given: given in STATES, "required: " + _STATE_FIX),
    Rule("etag", lambda given: 0 < len(given) <= 64, "required: the version's etag as last read"),
)
GET_RULES = (
    Rule("policy_id", matches(r"[a-z0-9-]{0,64}"), _ID_FIX),
    Rule("version", lambda given: given >= 0, "0 (the live one) or a version"),
)
LIST_RULES = (Rule("state", lambda given: given == 0 or given in STATES, "unset, or " + _STATE_FIX),)
REPLAY_RULES = (
    Rule("from_time.seconds", between(0, LAST_SECOND), "from 1970 to 9999"),
    Rule("to_time.seconds", between(0, LAST_SECOND), "from 1970 to 9999"),
    Rule("policy_id", _ID, "required, " + _ID_FIX),
    Rule("version", lambda given: given > 0, "required, from 1"),
)

Places = Mapping[str, Mapping[str, int]]


def document_of(request: service_pb2.SetPolicyRequest, layers: Iterable[str]) -> PolicyDocument:
    """The document to store; raises InvalidArgument with every field that is wrong. `layers`: those that are here."""
    if not request.HasField("policy"):
        raise invalid("policy", "required")
    policy = request.policy
    if policy.ByteSize() > DOCUMENT_BYTES:
        raise invalid("policy", f"at most {DOCUMENT_BYTES} bytes")
    check(policy, POLICY_RULES, prefix="policy.")
    refuse(_unknown(policy, frozenset(layers)))
    try:
        return PolicyDocument.model_validate(_document(policy))
    except ValidationError as error:
        refuse(_violation(problem, _places(policy)) for problem in error.errors())
        raise


def policy_out(version: Version) -> policy_pb2.Policy:
    """The version as the contract has it; the floor under it is not part of the document."""
    entry, document = version.entry, version.policy.document
    message = policy_pb2.Policy(
        policy_id=entry.policy_id,
        version=entry.version,
        tenant=document.tenant,
        state=policy_pb2.PolicyState.Value(f"POLICY_STATE_{entry.state.name}"),
        etag=entry.etag,
        description=document.description,
        thresholds=[_thresholds_out(category, limits) for category, limits in document.thresholds.items()],
        lists=[
            policy_pb2.TermList(name=name, category=category_out(terms.category), score=terms.score, terms=terms.terms)
            for name, terms in document.lists.items()
        ],
        names=[
            policy_pb2.NameList(name=name, category=category_out(names.category), score=names.score)
            for name, names in document.names.items()
        ],
        benign_phrases=document.benign_phrases,
        review_decision=decision_out(Decision[document.review_decision]),
        negative_prompt_weight=document.negative_prompt_weight,
        hash_distance=document.hash_distance,
        required_layers=document.required_layers,
        failure_mode=policy_pb2.FailureMode.Value(f"FAILURE_MODE_{document.failure_mode}"),
        languages=document.languages,
        text_retention=policy_pb2.TextRetention.Value(f"TEXT_RETENTION_{document.text_retention}"),
        retention=_days_out(document.retention_days),
        strikes=policy_pb2.StrikeRule(
            count=document.strikes.count,
            window=_days_out(document.strikes.window_days),
            consequence=policy_pb2.StrikeConsequence.Value(f"STRIKE_CONSEQUENCE_{document.strikes.consequence}"),
            categories=map(category_out, document.strikes.categories),
        ),
    )
    if entry.stored:
        message.create_time.FromMicroseconds(entry.create_us)
    return message


def _document(policy: policy_pb2.Policy) -> dict[str, Any]:
    """The message as a policy's file has it; what is unset keeps the file's default."""
    document: dict[str, Any] = {
        "policy": policy.policy_id,
        "version": 1,
        "tenant": policy.tenant,
        "description": policy.description,
        "thresholds": {CATEGORIES[limits.category].value: _limits(limits) for limits in policy.thresholds},
        "lists": {given.name: {**_counts(given), "terms": list(given.terms)} for given in policy.lists},
        "names": {given.name: _counts(given) for given in policy.names},
        "benign_phrases": list(policy.benign_phrases),
        "review_decision": REVIEW_DECISIONS[policy.review_decision],
        "required_layers": list(policy.required_layers),
        "failure_mode": FAILURE_MODES[policy.failure_mode],
        "languages": list(policy.languages),
        "text_retention": TEXT_RETENTIONS[policy.text_retention],
        "strikes": _strikes(policy.strikes),
    }
    for name in ("negative_prompt_weight", "hash_distance"):
        if policy.HasField(name):
            document[name] = getattr(policy, name)
    if policy.HasField("retention"):
        document["retention_days"] = policy.retention.seconds // DAY_SECONDS
    return document


def _strikes(given: policy_pb2.StrikeRule) -> dict[str, Any]:
    strikes: dict[str, Any] = {"consequence": CONSEQUENCES[given.consequence]}
    if given.count:
        strikes["count"] = given.count
    if given.HasField("window"):
        strikes["window_days"] = given.window.seconds // DAY_SECONDS
    if given.categories:
        strikes["categories"] = [CATEGORIES[number].value for number in given.categories]
    return strikes


def _limits(given: policy_pb2.CategoryThresholds) -> dict[str, Any]:
    limits: dict[str, Any] = {
        tier: getattr(given, tier) for tier in ("flag", "review", "block") if given.HasField(tier)
    }
    return limits | {"unevaluated": UNEVALUATED[given.unevaluated]}


def _counts(given: policy_pb2.TermList | policy_pb2.NameList) -> dict[str, Any]:
    return {"category": CATEGORIES[given.category].value, "score": given.score}


def _thresholds_out(category: Category, limits: CategoryThresholds) -> policy_pb2.CategoryThresholds:
    return policy_pb2.CategoryThresholds(
        category=category_out(category),
        flag=limits.flag,
        review=limits.review,
        block=limits.block,
        unevaluated=decision_out(Decision[limits.unevaluated]),
    )


def _days_out(days: int) -> duration_pb2.Duration:
    return duration_pb2.Duration(seconds=days * DAY_SECONDS)


def _whole_days(given: duration_pb2.Duration) -> bool:
    return not given.nanos and given.seconds % DAY_SECONDS == 0 and 1 <= given.seconds // DAY_SECONDS <= 3650


def _unknown(policy: policy_pb2.Policy, layers: frozenset[str]) -> Iterable[FieldViolation]:
    """What a mapping by name cannot hold: categories that are none, and names that come twice."""
    repeated: tuple[tuple[str, Iterable[Message]], ...] = (
        ("thresholds", policy.thresholds),
        ("lists", policy.lists),
        ("names", policy.names),
    )
    for field, parts in repeated:
        seen: set[object] = set()
        key = "category" if field == "thresholds" else "name"
        for index, part in enumerate(parts):
            if part.category not in CATEGORIES:  # type: ignore[attr-defined]  # each of the three has one
                yield FieldViolation(f"policy.{field}[{index}].category", "a category of the contract")
            if getattr(part, key) in seen:
                yield FieldViolation(f"policy.{field}[{index}].{key}", "comes twice")
            seen.add(getattr(part, key))
    for index, limits in enumerate(policy.thresholds):
        if limits.unevaluated not in UNEVALUATED:
            yield FieldViolation(f"policy.thresholds[{index}].unevaluated", "ALLOW, FLAG, REVIEW or BLOCK")
    for index, names in enumerate(policy.names):
        if f"{NAMES}{names.name}" not in layers:
            yield FieldViolation(f"policy.names[{index}].name", "no such list of names here")
    for index, layer in enumerate(policy.required_layers):
        if layer not in layers:
            fix = f"no such layer here, only {', '.join(sorted(name for name in layers if not name.startswith(NAMES)))}"
            yield FieldViolation(f"policy.required_layers[{index}]", fix)


def _places(policy: policy_pb2.Policy) -> Places:
    """Where the named parts stand in the message."""
    return {
        "thresholds": {CATEGORIES[part.category].value: index for index, part in enumerate(policy.thresholds)},
        "lists": {part.name: index for index, part in enumerate(policy.lists)},
        "names": {part.name: index for index, part in enumerate(policy.names)},
    }


def _violation(problem: Mapping[str, Any], places: Places) -> FieldViolation:
    text = str(problem["msg"]).removeprefix("Value error, ")
    location = [part for part in problem["loc"] if part != "[key]"]
    if not location:  # told by the whole document, which names the place itself
        told = re.match(r"([\w.-]+): ", text)
        location = list(told[1].split(".")) if told else []
        text = text[told.end() :] if told else text
    return FieldViolation(_path(location, places), text)


def _path(location: list[Any], places: Places) -> str:
    path = "policy"
    while location:
        part = location.pop(0)
        path += f"[{part}]" if isinstance(part, int) else f".{RENAMED.get(part, part)}"
        index = places.get(part, {}).get(str(location[0])) if location and isinstance(part, str) else None
        if index is not None:
            path += f"[{index}]"
            location.pop(0)
    return path
