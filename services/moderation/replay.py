"""Past decisions under another version: the stored findings are counted anew; pure.

What was judged is mostly not kept, so nothing new can be found in it; where the audit has the texts word for word, the
rules read them again. See ReplayPolicy in the contract for what that means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from services.moderation import coverage, language
from services.moderation.clues import is_negative
from services.moderation.combining import LAYER, combine
from services.moderation.normalise import normalise
from services.moderation.policies import Policy, PolicyDocument
from services.moderation.rules import RulesLayer
from services.moderation.verdicts import (
    EVIDENCE_LIMIT,
    Category,
    Decision,
    Finding,
    Judgement,
    Text,
    TextKind,
    Verdict,
    judge,
    texts_digest,
    weighted,
)

STORED = "stored"  # the layer of a finding that is known by its category's score alone


@dataclass(frozen=True)
class Difference:
    """A past decision that would be another one."""

    verdict_id: str
    before: Decision
    after: Decision
    category: Category


@dataclass(frozen=True)
class Past:
    """A past verdict, the policy it was given under where that is known, and the texts where they are kept."""

    verdict: Verdict
    before: Policy | None
    texts: tuple[Text, ...] = ()


def difference(past: Past, after: Policy, rules: RulesLayer) -> Difference | None:
    """What the version changes in the verdict; None when it decides the same. rules: of the version."""
    was, now = past.verdict.judgement, rescored(past, after, rules)
    if was.decision == now.decision:
        return None
    stricter = was if was.decision > now.decision else now
    return Difference(past.verdict.verdict_id, was.decision, now.decision, stricter.scores[0].category)


def rescored(past: Past, after: Policy, rules: RulesLayer) -> Judgement:
    """The judgement under another version, the caller's wish included."""
    old = None if past.before is None else past.before.document
    if past.texts:
        findings = _read_again(past, old, after.document, rules)
    else:
        findings = list(_findings(past.verdict, old, after.document))
    findings = [kept for finding in findings if (kept := _minded(finding, after)) is not None]
    findings += coverage.findings(past.verdict.not_evaluated, after)
    return judge(findings, after.rules, past.verdict.safety)


def _minded(finding: Finding, after: Policy) -> Finding | None:
    """What nobody judged is minded anew, and so is the language that the gate found."""
    if finding.layer == coverage.LAYER:
        return None
    return language.counted(finding, after) if finding.layer == language.LAYER else finding


def kept_texts(kept: str, sha256: str) -> tuple[Text, ...]:
    """The texts in what the audit kept; none when they are not word for word those that were judged."""
    texts: list[Text] = []
    for line in kept.split("\n") if kept else ():
        label = next((kind for kind in TextKind if line.startswith(f"{kind}: ")), None)
        if label is not None or not texts:
            kind = label or TextKind.PROMPT
            texts.append(Text(len(texts), kind, line if label is None else line.removeprefix(f"{kind}: ")))
        else:
            texts[-1] = replace(texts[-1], text=f"{texts[-1].text}\n{line}")
    return tuple(texts) if texts_digest(texts) == sha256 else ()


def _read_again(past: Past, old: PolicyDocument | None, new: PolicyDocument, rules: RulesLayer) -> list[Finding]:
    """The new rules over the texts, with what the other layers found in them."""
    clues = rules.read([(text, normalise(text.text)) for text in past.texts])
    weight = 1.0 if old is None else old.negative_prompt_weight
    others = [kept.finding for kept in past.verdict.judgement.evidence if kept.finding.layer != LAYER]
    scored = [weighted(one, 1 / weight) if is_negative(one) and weight else one for one in others]
    return combine(clues, scored, new.negative_prompt_weight)


def _findings(verdict: Verdict, old: PolicyDocument | None, new: PolicyDocument) -> Iterator[Finding]:
    evidence = verdict.judgement.evidence
    for kept in evidence:
        finding = _listed(kept.finding, old, new) if kept.finding.layer == LAYER else _weighed(kept.finding, old, new)
        if finding is not None:
            yield finding
    if len(evidence) < EVIDENCE_LIMIT:
        return
    told = {kept.finding.category for kept in evidence}
    for score in verdict.judgement.scores:
        if score.category not in told:
            yield Finding(STORED, score.category, score.score, STORED, "")


def _listed(finding: Finding, old: PolicyDocument | None, new: PolicyDocument) -> Finding | None:
    """A match of a list as the new version counts it; None when the list or the term is gone."""
    name, _, term = finding.entry.partition("/")
    was_listed = old is not None and (name in old.lists or name in old.names)
    if " x " in finding.entry or finding.category is Category.SEXUAL_MINORS:
        return _weighed(finding, old, new)  # a rule over several findings
    names = new.names.get(name)
    terms = new.lists.get(name)
    if names is not None:
        listed = replace(finding, category=names.category, score=names.score)
        return _weighed_from(listed, new)
    if terms is None:
        return None if was_listed else _weighed(finding, old, new)
    if term not in terms.terms:
        return None
    return _weighed_from(replace(finding, category=terms.category, score=terms.score), new)


def _weighed_from(finding: Finding, new: PolicyDocument) -> Finding:
    return weighted(finding, new.negative_prompt_weight if is_negative(finding) else 1.0)


def _weighed(finding: Finding, old: PolicyDocument | None, new: PolicyDocument) -> Finding:
    """The score with the new weight of negative prompts instead of the old one; one weighed with 0 stays 0."""
    if old is None or not is_negative(finding) or old.negative_prompt_weight == 0:
        return finding
    if old.negative_prompt_weight == new.negative_prompt_weight:
        return finding
    return weighted(finding, new.negative_prompt_weight / old.negative_prompt_weight)
