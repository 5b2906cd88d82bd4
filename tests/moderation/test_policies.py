"""Policy files: what is accepted, and what each mistake is told as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.moderation.assembly import LAYERS
from services.moderation.blocklist import BlocklistError, read_blocklist
from services.moderation.config import DEFAULT_POLICY
from services.moderation.policies import PolicyBook
from services.moderation.policy_files import PolicyFileError, load_policies
from services.moderation.verdicts import Category, Decision

MINORS = {"flag": 0.2, "review": 0.35, "block": 0.5}
SMALL: dict[str, Any] = {
    "policy": "small",
    "version": 3,
    "thresholds": {"SEXUAL_MINORS": MINORS, "GORE": {"flag": 0.3, "block": 0.9}},
    "lists": {"gore": {"category": "GORE", "score": 0.9, "terms": ["entrails"]}},
}


def load(folder: Path, document: Any, **tenants: Any) -> PolicyBook:
    default = folder / "default.yaml"
    default.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    (folder / "tenants").mkdir(exist_ok=True)
    for name, own in tenants.items():
        (folder / "tenants" / f"{name}.yaml").write_text(yaml.safe_dump(own))
    return load_policies(default, LAYERS)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"treshold": {}}, "treshold: Extra inputs are not permitted"),
    "unknown category": ({"thresholds": {"SEXUAL_MINORS": MINORS, "RUDE": {}}}, "thresholds.RUDE"),
    "score above one": ({"lists": {"a": {"category": "GORE", "score": 1.5, "terms": ["x"]}}}, "lists.a.score"),
    "unordered": ({"thresholds": {"SEXUAL_MINORS": MINORS, "GORE": {"flag": 0.9, "block": 0.3}}}, "flag <= review <="),
    "empty term": ({"lists": {"a": {"category": "GORE", "score": 0.5, "terms": ["..."]}}}, "at least one letter"),
    "list name": ({"lists": {"A list": {"category": "GORE", "score": 0.5, "terms": ["x"]}}}, "a list's name"),
    "list without thresholds": (
        {"lists": {"b": {"category": "BRAND", "score": 0.5, "terms": ["x"]}}},
        "lists.b: thresholds has no entry for BRAND",
    ),
    "no minors": ({"thresholds": {"GORE": {"flag": 0.3}}}, "thresholds.SEXUAL_MINORS: required"),
    "minors too lax": (
        {"thresholds": {"SEXUAL_MINORS": {**MINORS, "block": 0.9}, "GORE": {"flag": 0.3}}},
        "thresholds.SEXUAL_MINORS.block: at most 0.5 (the floor that no policy lowers)",
    ),
    "minors never reviewed": (
        {"thresholds": {"SEXUAL_MINORS": {"block": 0.5}, "GORE": {"flag": 0.3}}},
        "thresholds.SEXUAL_MINORS.review: at most 0.35",
    ),
    "version": ({"version": 0}, "version: Input should be greater than or equal to 1"),
    "text kept somehow": (
        {"text_retention": "SOMEHOW"},
        "text_retention: Input should be 'HASHED',",
    ),
    "strikes": ({"strikes": {"consequence": "JAIL"}}, "strikes.consequence: Input should be"),
    "language": ({"languages": ["English"]}, "languages.0: String should match"),
    "missing layer": ({"required_layers": ["rules", "nsfw-net"]}, "required_layers: no nsfw-net here"),
}


@pytest.mark.parametrize(("change", "told"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_told_by_key(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(PolicyFileError) as raised:
        load(tmp_path, {**SMALL, **change})
    assert told in str(raised.value)


def test_all_mistakes_of_a_file_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError) as raised:
        load(tmp_path, {**SMALL, "version": "x", "hash_distance": 99})
    assert "version" in str(raised.value)
    assert "hash_distance" in str(raised.value)
    assert str(tmp_path / "default.yaml") in str(raised.value)


@pytest.mark.parametrize("text", ["- a list", "a: [", "just words"])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    with pytest.raises(PolicyFileError):
        load(tmp_path, text)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match="nowhere"):
        load_policies(tmp_path / "nowhere.yaml", LAYERS)


def test_a_tenants_file_holds_only_what_differs(tmp_path: Path) -> None:
    own = {
        "policy": "acme-own",
        "version": 7,
        "tenant": "acme",
        "review_decision": "REVIEW",
        "thresholds": {"GORE": {"block": 0.5}},
        "lists": {"gore": None, "more": {"category": "GORE", "score": 0.6, "terms": ["offal"]}},
    }
    book = load(tmp_path, SMALL, acme=own)
    document = book.for_tenant("acme").document
    assert (document.policy, document.version, document.review_decision) == ("acme-own", 7, "REVIEW")
    assert set(document.lists) == {"more"}
    assert document.thresholds[Category.SEXUAL_MINORS].block == 0.5
    assert book.for_tenant("other").policy_id == "small"


def test_a_tenants_file_may_not_lower_the_floor(tmp_path: Path) -> None:
    own = {"policy": "x", "version": 1, "tenant": "acme", "thresholds": {"SEXUAL_MINORS": {"flag": 0.9, "block": 1}}}
    with pytest.raises(PolicyFileError, match="the floor that no policy lowers"):
        load(tmp_path, SMALL, acme=own)


@pytest.mark.parametrize("missing", ["policy", "version", "tenant"])
def test_a_tenants_file_names_itself(tmp_path: Path, missing: str) -> None:
    own = {"policy": "x", "version": 1, "tenant": "acme"}
    del own[missing]
    with pytest.raises(PolicyFileError, match=missing):
        load(tmp_path, SMALL, acme=own)


def test_two_files_for_one_tenant(tmp_path: Path) -> None:
    own = {"policy": "x", "version": 1, "tenant": "acme"}
    with pytest.raises(PolicyFileError, match="one policy only"):
        load(tmp_path, SMALL, one=own, two={**own, "policy": "y"})


def test_the_review_tier_of_minors_is_never_softened(tmp_path: Path) -> None:
    rules = load(tmp_path, {**SMALL, "review_decision": "FLAG"}).for_tenant("acme").rules
    assert rules.decide(Category.SEXUAL_MINORS, 0.4) is Decision.REVIEW


def test_the_etag_changes_with_the_content_alone(tmp_path: Path) -> None:
    first = load(tmp_path, SMALL).for_tenant("").etag
    assert load(tmp_path, SMALL).for_tenant("").etag == first
    assert load(tmp_path, {**SMALL, "hash_distance": 3}).for_tenant("").etag != first


def test_the_default_policy_minds_every_category() -> None:
    document = load_policies(DEFAULT_POLICY, LAYERS).for_tenant("").document
    assert set(document.thresholds) == set(Category)


def test_blocklist_file(tmp_path: Path) -> None:
    path = tmp_path / "blocked.txt"
    path.write_text(f"# ours\n\nffeeddccbbaa9988 GORE  # note\n{'ab' * 32} SEXUAL\n")
    first, second = read_blocklist(path)
    assert (first.phash, first.category, first.sha256) == (0xFFEEDDCCBBAA9988, Category.GORE, "")
    assert (second.phash, second.sha256) == (None, "ab" * 32)
    assert read_blocklist(path) == [first, second]


def test_blocklist_mistakes_are_told_by_line(tmp_path: Path) -> None:
    path = tmp_path / "blocked.txt"
    path.write_text("ffee GORE\nffeeddccbbaa9988 NICE\nffeeddccbbaa9988 GORE\n")
    with pytest.raises(BlocklistError) as raised:
        read_blocklist(path)
    assert [line.split(":")[1] for line in str(raised.value).splitlines()] == ["1", "2"]
