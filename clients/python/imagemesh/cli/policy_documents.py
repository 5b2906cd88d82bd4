"""Policy documents as people write them (YAML, as the service's own files are) and as the contract has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import duration_pb2

from imagemesh.cli.failures import USAGE, Failure
from imagemesh.moderation.v1 import policy_pb2, verdict_pb2

DAY_SECONDS = 86_400
TIERS = ("flag", "review", "block")
PLAIN = {
    "policy": "policy_id",
    "tenant": "tenant",
    "description": "description",
    "negative_prompt_weight": "negative_prompt_weight",
    "hash_distance": "hash_distance",
}
LISTED = ("benign_phrases", "required_layers", "languages")
Put = Callable[[policy_pb2.Policy, Any], None]


def read_policy(path: Path) -> policy_pb2.Policy:
    """The policy in a YAML file; its `version` is the mesh's to give. Raises Failure that names the wrong key."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Failure(f"{path}: {error}", USAGE) from error
    if not isinstance(document, dict):
        raise Failure(f"{path}: must be a mapping of keys to values", USAGE)
    policy = policy_pb2.Policy()
    for key, value in document.items():
        try:
            _put(policy, key, value)
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise Failure(f"{path}: {key}: {error}", USAGE) from error
    return policy


def write_policy(policy: policy_pb2.Policy) -> str:
    """The document as YAML; what `read_policy` reads."""
    document: dict[str, Any] = {"policy": policy.policy_id, "version": policy.version}
    document |= {key: getattr(policy, field) for key, field in PLAIN.items() if key != "policy"}
    document |= {
        "review_decision": _short(verdict_pb2.Decision.Name(policy.review_decision), "DECISION_"),
        "failure_mode": _short(policy_pb2.FailureMode.Name(policy.failure_mode), "FAILURE_MODE_"),
        "text_retention": _short(policy_pb2.TextRetention.Name(policy.text_retention), "TEXT_RETENTION_"),
        "retention_days": policy.retention.seconds // DAY_SECONDS,
        "strikes": {
            "count": policy.strikes.count,
            "window_days": policy.strikes.window.seconds // DAY_SECONDS,
            "consequence": _short(policy_pb2.StrikeConsequence.Name(policy.strikes.consequence), "STRIKE_CONSEQUENCE_"),
            "categories": [_short(verdict_pb2.Category.Name(one), "CATEGORY_") for one in policy.strikes.categories],
        },
        "thresholds": {_category(one): _tiers(one) for one in policy.thresholds},
        "lists": {one.name: {**_counts(one), "terms": list(one.terms)} for one in policy.lists},
        "names": {one.name: _counts(one) for one in policy.names},
    }
    document |= {key: list(getattr(policy, key)) for key in LISTED}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _put(policy: policy_pb2.Policy, key: str, value: Any) -> None:
    if key in PLAIN:
        setattr(policy, PLAIN[key], value)
    elif key in LISTED:
        getattr(policy, key).extend(_list(value))
    elif key in PUTS:
        PUTS[key](policy, value)
    elif key != "version":
        raise ValueError("no such key in a policy")


def _thresholds(policy: policy_pb2.Policy, value: Any) -> None:
    for name, limits in _mapping(value).items():
        _known(limits, (*TIERS, "unevaluated"))
        tiers = {tier: limits[tier] for tier in TIERS if tier in limits}
        unevaluated = verdict_pb2.Decision.Value(f"DECISION_{limits.get('unevaluated', 'ALLOW')}")
        policy.thresholds.add(category=_number(name), unevaluated=unevaluated, **tiers)


def _lists(policy: policy_pb2.Policy, value: Any) -> None:
    for name, one in _mapping(value).items():
        _known(one, ("category", "score", "terms"))
        policy.lists.add(
            name=name, category=_number(one["category"]), score=one["score"], terms=_list(one.get("terms", []))
        )


def _names(policy: policy_pb2.Policy, value: Any) -> None:
    for name, one in _mapping(value).items():
        _known(one, ("category", "score"))
        policy.names.add(name=name, category=_number(one["category"]), score=one["score"])


def _strikes(policy: policy_pb2.Policy, value: Any) -> None:
    _known(value, ("count", "window_days", "consequence", "categories"))
    policy.strikes.count = value.get("count", 0)
    if "window_days" in value:
        policy.strikes.window.CopyFrom(_days(value["window_days"]))
    name = value.get("consequence", "NONE")
    policy.strikes.consequence = policy_pb2.StrikeConsequence.Value(f"STRIKE_CONSEQUENCE_{name}")
    policy.strikes.categories.extend(
        verdict_pb2.Category.Value(f"CATEGORY_{one}") for one in value.get("categories", ())
    )


def _review(policy: policy_pb2.Policy, value: Any) -> None:
    policy.review_decision = verdict_pb2.Decision.Value(f"DECISION_{value}")


def _failure(policy: policy_pb2.Policy, value: Any) -> None:
    policy.failure_mode = policy_pb2.FailureMode.Value(f"FAILURE_MODE_{value}")


def _text(policy: policy_pb2.Policy, value: Any) -> None:
    policy.text_retention = policy_pb2.TextRetention.Value(f"TEXT_RETENTION_{value}")


def _retention(policy: policy_pb2.Policy, value: Any) -> None:
    policy.retention.CopyFrom(_days(value))


PUTS: Mapping[str, Put] = {
    "thresholds": _thresholds,
    "lists": _lists,
    "names": _names,
    "strikes": _strikes,
    "review_decision": _review,
    "failure_mode": _failure,
    "text_retention": _text,
    "retention_days": _retention,
}


def _days(days: int) -> duration_pb2.Duration:
    return duration_pb2.Duration(seconds=days * DAY_SECONDS)


def _number(category: str) -> verdict_pb2.Category.ValueType:
    return verdict_pb2.Category.Value(f"CATEGORY_{category}")


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("must be a mapping")
    return value


def _known(value: Any, keys: tuple[str, ...]) -> None:
    unknown = sorted(set(_mapping(value)) - set(keys))
    if unknown:
        raise ValueError(f"{unknown[0]}: no such key, only {', '.join(keys)}")


def _list(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("must be a list of texts")
    return value


def _category(one: policy_pb2.CategoryThresholds | policy_pb2.TermList | policy_pb2.NameList) -> str:
    return _short(verdict_pb2.Category.Name(one.category), "CATEGORY_")


def _tiers(one: policy_pb2.CategoryThresholds) -> dict[str, Any]:
    tiers = {tier: getattr(one, tier) for tier in TIERS if one.HasField(tier)}  # type: ignore[arg-type]  # its fields
    if one.unevaluated in (verdict_pb2.DECISION_UNSPECIFIED, verdict_pb2.DECISION_ALLOW):
        return tiers
    return tiers | {"unevaluated": _short(verdict_pb2.Decision.Name(one.unevaluated), "DECISION_")}


def _counts(one: policy_pb2.TermList | policy_pb2.NameList) -> dict[str, Any]:
    return {"category": _category(one), "score": one.score}


def _short(name: str, prefix: str) -> str:
    return name.removeprefix(prefix)
