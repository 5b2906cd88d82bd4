"""Policies as values: what is minded, how much, by which lists; validated whole before any of it is used."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from services.moderation.lexicon import words_of
from services.moderation.names import NameIndex
from services.moderation.verdicts import Category, Decision, Rules, Thresholds

SEXUAL_MINORS_CEILING = Thresholds(flag=0.25, review=0.35, block=0.5)
LIST_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
DEFAULT_POLICY = "default"
FILE_VERSIONS = 999  # versions above are those of stored documents that follow a file's

Score = Annotated[float, Field(gt=0, le=1)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
L = TypeVar("L")
DecisionName = Literal["FLAG", "REVIEW", "BLOCK"]


class Document(BaseModel):
    """A part of a policy file: unknown keys are mistakes, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CategoryThresholds(Document):
    """From which score on a category is flagged, reviewed, blocked; a tier left out never happens.

    unevaluated: what happens where no layer could judge the category, as in most categories of pictures.
    """

    flag: Score | None = None
    review: Score | None = None
    block: Score | None = None
    unevaluated: Literal["ALLOW", "FLAG", "REVIEW", "BLOCK"] = "ALLOW"

    @model_validator(mode="after")
    def _ordered(self) -> CategoryThresholds:
        given = [limit for limit in (self.flag, self.review, self.block) if limit is not None]
        if given != sorted(given):
            raise ValueError("must be flag <= review <= block")
        return self

    def value(self) -> Thresholds:
        """The thresholds as the judge takes them."""
        return Thresholds(self.flag, self.review, self.block)


class TermList(Document):
    """Terms that count for one category with one score."""

    category: Category
    score: Score
    terms: tuple[str, ...] = Field(min_length=1, max_length=10_000)

    @field_validator("terms")
    @classmethod
    def _findable(cls, terms: tuple[str, ...]) -> tuple[str, ...]:
        return findable(terms)


class NameList(Document):
    """What a list of names (`services/moderation/gazetteers`, or the operator's own folder) counts for."""

    category: Category
    score: Score


class Strikes(Document):
    """What happens to a user whose prompts were blocked `count` times within `window_days`; NONE: nothing.

    categories: blocks in these count; empty: in all.
    """

    count: int = Field(3, ge=1, le=1000)
    window_days: int = Field(90, ge=1, le=3650)
    consequence: Literal["NONE", "REVIEW", "BLOCK"] = "NONE"
    categories: tuple[Category, ...] = ()


class PolicyDocument(Document):
    """One version of a policy, as it stands in a file. See `imagemesh.moderation.v1.Policy` for each field."""

    policy: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    version: int = Field(ge=1)
    tenant: str = Field("", max_length=64)
    description: str = Field("", max_length=1000)
    thresholds: Mapping[Category, CategoryThresholds]
    lists: Mapping[str, TermList]
    names: Mapping[str, NameList] = Field(default={}, max_length=64)
    benign_phrases: tuple[str, ...] = Field((), max_length=10_000)
    review_decision: DecisionName = "BLOCK"
    negative_prompt_weight: float = Field(1.0, ge=0, le=1)
    hash_distance: int = Field(8, ge=0, le=16)
    required_layers: tuple[str, ...] = Field((), max_length=32)
    failure_mode: Literal["CLOSED", "OPEN"] = "CLOSED"
    languages: tuple[Language, ...] = Field((), max_length=64)
    text_retention: Literal["HASHED", "SCRUBBED", "PLAIN"] = "HASHED"
    retention_days: int = Field(365, ge=1, le=3650)
    strikes: Strikes = Strikes()

    @field_validator("lists", "names")
    @classmethod
    def _named(cls, lists: Mapping[str, L]) -> Mapping[str, L]:
        for name in lists:
            if not LIST_NAME.fullmatch(name):
                raise ValueError(f"{name!r}: a list's name has lower-case letters, digits and `-`")
        return lists

    @field_validator("benign_phrases")
    @classmethod
    def _findable(cls, phrases: tuple[str, ...]) -> tuple[str, ...]:
        return findable(phrases)

    @model_validator(mode="after")
    def _minded(self) -> PolicyDocument:
        self._refuse_silent_lists()
        self._refuse_below_floor()
        return self

    def _refuse_silent_lists(self) -> None:
        named: list[tuple[str, TermList | NameList]] = [(f"lists.{name}", terms) for name, terms in self.lists.items()]
        named += [(f"names.{name}", terms) for name, terms in self.names.items()]
        for name, terms in named:
            if terms.category not in self.thresholds:
                raise ValueError(f"{name}: thresholds has no entry for {terms.category}, so it would do nothing")

    def _refuse_below_floor(self) -> None:
        """Children are protected whatever a policy says."""
        ours = self.thresholds.get(Category.SEXUAL_MINORS)
        if ours is None:
            raise ValueError("thresholds.SEXUAL_MINORS: required; it has a floor that no policy lowers")
        floor = SEXUAL_MINORS_CEILING
        for tier, limit, most in (("review", ours.review, floor.review), ("block", ours.block, floor.block)):
            if limit is None or most is None or limit > most:
                raise ValueError(f"thresholds.SEXUAL_MINORS.{tier}: at most {most} (the floor that no policy lowers)")


class Floor(Document):
    """What protects minors under every policy: terms that say it outright, and two signals that say it together.

    signals and minors: term lists by name; the score of a signal times the score of a minor is the score of both.
    harmless: phrases in which a signal or a minor means nothing of the kind; a policy cannot add to them.
    """

    version: int = Field(ge=1)
    explicit: TermList
    signals: Mapping[str, TermList]
    minors: Mapping[str, TermList]
    harmless: tuple[str, ...] = ()


class Policy(BaseModel):
    """A loaded policy version with the floor under it."""

    model_config = ConfigDict(frozen=True)

    document: PolicyDocument
    floor: Floor

    @property
    def policy_id(self) -> str:
        """The policy's id."""
        return self.document.policy

    @property
    def version(self) -> int:
        """The version, from 1."""
        return self.document.version

    @cached_property
    def etag(self) -> str:
        """A hash of everything that decides; it changes with any of it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @cached_property
    def rules(self) -> Rules:
        """What turns scores into decisions."""
        thresholds = {category: limits.value() for category, limits in self.document.thresholds.items()}
        thresholds[Category.SEXUAL_MINORS] = _held(thresholds.get(Category.SEXUAL_MINORS, Thresholds()))
        return Rules(thresholds, Decision[self.document.review_decision])


def _held(given: Thresholds) -> Thresholds:
    """The thresholds under the floor, also where a document came past its validation."""
    most = SEXUAL_MINORS_CEILING
    pairs = ((given.flag, most.flag), (given.review, most.review), (given.block, most.block))
    return Thresholds(*(min(limit if limit is not None else 1.0, ceiling or 1.0) for limit, ceiling in pairs))


def findable(terms: Sequence[str]) -> tuple[str, ...]:
    """The terms, or ValueError for one that could never match."""
    for term in terms:
        if words_of(term) == 0 or len(term) > 200:
            raise ValueError(f"{term!r}: a term has 1 to 200 characters and at least one letter or digit")
    return tuple(terms)


class PolicyBook:
    """The policies in force: the default, and the tenants' own; and the lists of names that they may ask for."""

    def __init__(self, policies: Sequence[Policy], names: NameIndex | None = None) -> None:
        self.names = names
        self._by_id = {policy.policy_id: policy for policy in policies}
        self._by_tenant = {policy.document.tenant: policy for policy in policies}
        if len(self._by_id) != len(policies) or len(self._by_tenant) != len(policies):
            raise ValueError("each policy id and each tenant may have one policy only")
        if "" not in self._by_tenant:
            raise ValueError("there is no default policy (one without `tenant`)")

    def for_tenant(self, tenant: str) -> Policy:
        """The tenant's own policy, or the default."""
        return self._by_tenant.get(tenant) or self._by_tenant[""]

    def find(self, policy_id: str) -> Policy | None:
        """The policy of that id."""
        return self._by_id.get(policy_id)

    def all(self) -> tuple[Policy, ...]:
        """Every policy, by id."""
        return tuple(policy for _, policy in sorted(self._by_id.items()))
