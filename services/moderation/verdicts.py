"""Verdicts as values: findings of layers, thresholds, and how the one becomes a decision under the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from hashlib import sha256

EVIDENCE_LIMIT = 64


class Decision(IntEnum):
    """What may be done with the content; higher is stricter. Numbered as in the contract."""

    ALLOW = 1
    FLAG = 2
    REVIEW = 3
    BLOCK = 4


class Category(StrEnum):
    """What a finding is about; the names of the contract."""

    SEXUAL = "SEXUAL"
    SEXUAL_MINORS = "SEXUAL_MINORS"
    VIOLENCE = "VIOLENCE"
    GORE = "GORE"
    HATE = "HATE"
    HARASSMENT = "HARASSMENT"
    SELF_HARM = "SELF_HARM"
    ILLEGAL = "ILLEGAL"
    WEAPONS = "WEAPONS"
    DEFAMATION = "DEFAMATION"
    PUBLIC_FIGURE = "PUBLIC_FIGURE"
    BRAND = "BRAND"
    ARTIST_STYLE = "ARTIST_STYLE"
    PII = "PII"


class SubjectKind(StrEnum):
    """What a verdict is about."""

    PROMPT = "PROMPT"
    IMAGE = "IMAGE"


class TextKind(StrEnum):
    """Where a text stands in a request."""

    PROMPT = "PROMPT"
    NEGATIVE_PROMPT = "NEGATIVE_PROMPT"
    STYLE = "STYLE"
    RENDERED_TEMPLATE = "RENDERED_TEMPLATE"
    REVISED_PROMPT = "REVISED_PROMPT"
    IMAGE_TEXT = "IMAGE_TEXT"


class SafetyLevel(IntEnum):
    """How strict a caller wants to be; numbered as in the contract."""

    AS_POLICY = 0
    STRICT = 1
    STRICTEST = 2


@dataclass(frozen=True, slots=True)
class Text:
    """One text to judge. `index` is its place in the request."""

    index: int
    kind: TextKind
    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """The picture to judge: an asset's id, its bytes, or both; without bytes they are read from storage."""

    asset_id: str = ""
    inline: bytes = b""


@dataclass(frozen=True, slots=True)
class Span:
    """Where a finding lies in the original text, in code points; `end` is exclusive."""

    text_index: int
    kind: TextKind
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What one layer found. `entry` names the list entry, hash or label, never the caller's words.

    at_least: the decision it brings whatever the thresholds say; a picture that was taken down stays blocked.
    """

    layer: str
    category: Category
    score: float
    entry: str
    model_version: str
    span: Span | None = None
    reading: str = ""
    at_least: Decision = Decision.ALLOW


@dataclass(frozen=True, slots=True)
class Evidence:
    """A finding with the lowest threshold it was measured against."""

    finding: Finding
    threshold: float


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which score on a category is flagged, reviewed, blocked; None never."""

    flag: float | None = None
    review: float | None = None
    block: float | None = None

    def tier(self, score: float) -> Decision:
        """The strictest tier that the score reaches."""
        tiers = ((Decision.BLOCK, self.block), (Decision.REVIEW, self.review), (Decision.FLAG, self.flag))
        return next((tier for tier, limit in tiers if limit is not None and score >= limit), Decision.ALLOW)

    @property
    def lowest(self) -> float:
        """The lowest score at which anything happens; 1 when nothing ever does."""
        return min((limit for limit in (self.flag, self.review, self.block) if limit is not None), default=1.0)


@dataclass(frozen=True, slots=True)
class Safety:
    """A caller's wish to be stricter than the policy."""

    level: SafetyLevel = SafetyLevel.AS_POLICY
    block_categories: frozenset[Category] = frozenset()

    def tighten(self, category: Category, decision: Decision) -> Decision:
        """The decision after the wish; never looser than before it."""
        strictest = self.level is SafetyLevel.STRICTEST or category in self.block_categories
        from_here = Decision.FLAG if strictest else Decision.REVIEW
        if decision >= from_here and (strictest or self.level is SafetyLevel.STRICT):
            return Decision.BLOCK
        return decision

    @property
    def key(self) -> str:
        """The same wish, as text."""
        return f"{int(self.level)}:{','.join(sorted(self.block_categories))}"

    @classmethod
    def of(cls, key: str) -> Safety:
        """The wish whose `key` this is."""
        level, _, categories = key.partition(":")
        return cls(SafetyLevel(int(level)), frozenset(Category(name) for name in categories.split(",") if name))


@dataclass(frozen=True, slots=True)
class Rules:
    """What turns scores into decisions: thresholds, what the review tier means, and where it may not be softened."""

    thresholds: Mapping[Category, Thresholds]
    review_decision: Decision

    def decide(self, category: Category, score: float) -> Decision:
        """What this category alone decides at this score."""
        tier = self.thresholds.get(category, Thresholds()).tier(score)
        if tier is not Decision.REVIEW:
            return tier
        if category is Category.SEXUAL_MINORS:
            return max(self.review_decision, Decision.REVIEW)
        return self.review_decision

    def floor(self) -> Rules:
        """What stands when a person let the content through: the categories that have a floor, and no other."""
        held = {Category.SEXUAL_MINORS: self.thresholds.get(Category.SEXUAL_MINORS, Thresholds())}
        return Rules(held, self.review_decision)


@dataclass(frozen=True, slots=True)
class CategoryScore:
    """The highest score in a category and what it alone decides."""

    category: Category
    score: float
    decision: Decision


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the layers' findings come to."""

    decision: Decision
    scores: tuple[CategoryScore, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    layer: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What was judged, for whom. `length` in characters or bytes; ids are empty where there is none."""

    kind: SubjectKind
    tenant: str
    sha256: str
    length: int
    job_id: str = ""
    asset_id: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class Signs:
    """How surely texts are sexual, and refer to a minor: 0 to 1; what is drawn from them is judged beside that."""

    sexual: float = 0.0
    minor: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """A stored judgement. `create_us` is microseconds since 1970-01-01 UTC, by the database's clock.

    safety: the caller's wish under which it was given. signs: of a prompt.
    """

    verdict_id: str
    subject: Subject
    judgement: Judgement
    policy_id: str
    policy_version: int
    not_evaluated: tuple[Category, ...]
    create_us: int = 0
    safety: Safety = field(default_factory=Safety)
    signs: Signs = Signs()


def judge(findings: Iterable[Finding], rules: Rules, safety: Safety) -> Judgement:
    """The decision of all findings together: BLOCK beats REVIEW beats FLAG beats ALLOW."""
    ordered = sorted(findings, key=lambda finding: (-_decide(finding, rules, safety), -finding.score))
    best: dict[Category, Finding] = {}
    highest: dict[Category, float] = {}
    for finding in ordered:
        best.setdefault(finding.category, finding)
        highest[finding.category] = max(finding.score, highest.get(finding.category, 0.0))
    scores = [CategoryScore(each, highest[each], _decide(top, rules, safety)) for each, top in best.items()]
    scores.sort(key=lambda score: (-score.decision, -score.score))
    if not scores:
        return Judgement(Decision.ALLOW)
    decision = scores[0].decision
    layer = "" if decision is Decision.ALLOW else best[scores[0].category].layer
    evidence = tuple(_evidence(finding, rules) for finding in ordered[:EVIDENCE_LIMIT])
    return Judgement(decision, tuple(scores), evidence, layer)


def _decide(finding: Finding, rules: Rules, safety: Safety) -> Decision:
    """What this finding alone decides; a caller's wish tightens also what does not come from a score."""
    return safety.tighten(finding.category, max(rules.decide(finding.category, finding.score), finding.at_least))


def _evidence(finding: Finding, rules: Rules) -> Evidence:
    return Evidence(finding, rules.thresholds.get(finding.category, Thresholds()).lowest)


def weighted(finding: Finding, weight: float) -> Finding:
    """The finding with its score times `weight`; SEXUAL_MINORS always counts fully."""
    if finding.category is Category.SEXUAL_MINORS or weight == 1:
        return finding
    return replace(finding, score=round(finding.score * weight, 6))


def above_floor(findings: Iterable[Finding]) -> list[Finding]:
    """The findings of a text that a person let through: what no layer could judge, a language say, the person has."""
    return [replace(finding, at_least=Decision.ALLOW) for finding in findings]


def texts_digest(texts: Iterable[Text]) -> str:
    """SHA-256 over all texts with their kinds, lower-case hex; no two different lists share the digested bytes."""
    digest = sha256()
    for text in texts:
        encoded = text.text.encode("utf-8", "surrogatepass")
        digest.update(f"{text.kind}:{len(encoded)}:".encode())
        digest.update(encoded)
    return digest.hexdigest()
