"""The rules layer: the policy's term lists, and the rule over two signals that protects minors.

Each entry of a list is reported once for each text, at its first place that no benign phrase covers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from services.moderation.lexicon import Lexicon, Match, Term
from services.moderation.normalise import Normalised
from services.moderation.policies import Policy, TermList
from services.moderation.verdicts import Category, Finding, Span, Text, TextKind, weighted

LAYER = "rules"
ADULT_AGE = 18
EXPLICIT = "floor-explicit"

_TEENS = "thirteen|fourteen|fifteen|sixteen|seventeen"
_UNDERAGE = f"one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|{_TEENS}"
_AGE = re.compile(
    rf"\b(?P<years>\d{{1,3}}|{_UNDERAGE})[\s-]*(?:years?|yrs?|y)[\s/.-]*(?:olds?|o)\b"
    rf"|\b(?:age|aged|ages)[\s:]*(?P<age>\d{{1,3}}|{_UNDERAGE})\b"
    r"|\b(?P<birthday>\d{1,3})(?:st|nd|rd|th)\s+birthday\b"
    r"|\b\d{1,2}[\s-]*(?:months?|weeks?|days?)[\s-]*old\b"
)


@dataclass(frozen=True, slots=True)
class _Owner:
    """What a term counts for: a category of the policy, or one side of the floor's rule."""

    name: str
    category: Category
    score: float
    signal: bool = False
    minor: bool = False
    maskable: bool = True


@dataclass(frozen=True, slots=True)
class _Hit:
    owner: _Owner
    entry: str
    span: Span
    reading: str


class RulesLayer:
    """Looks texts up in one policy's lists. Built once for each policy version; safe in any thread."""

    name = LAYER

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._version = f"{policy.policy_id}@{policy.version}-{policy.etag}"
        self._owners = {owner.name: owner for owner, _ in _owners(policy)}
        self._lexicon = Lexicon(Term(owner.name, term) for owner, terms in _owners(policy) for term in terms.terms)
        self._benign = Lexicon(Term("benign", phrase) for phrase in policy.document.benign_phrases)
        listed = {terms.category for terms in policy.document.lists.values()}
        self.categories = frozenset(listed | {Category.SEXUAL_MINORS})

    def judge(self, texts: Sequence[tuple[Text, Normalised]]) -> list[Finding]:
        """Every finding in all the texts together; negative prompts are weighed and never combined with the others."""
        hits = [hit for text, normalised in texts for hit in self._hits(text, normalised)]
        findings = [self._finding(hit) for hit in hits if not (hit.owner.signal or hit.owner.minor)]
        for negative in (False, True):
            group = [hit for hit in hits if (hit.span.kind is TextKind.NEGATIVE_PROMPT) is negative]
            findings.extend(self._minors(group))
        return findings

    def _finding(self, hit: _Hit) -> Finding:
        entry = f"{hit.owner.name}/{hit.entry}"
        finding = Finding(LAYER, hit.owner.category, hit.owner.score, entry, self._version, hit.span, hit.reading)
        negative = hit.span.kind is TextKind.NEGATIVE_PROMPT
        return weighted(finding, self._policy.document.negative_prompt_weight if negative else 1.0)

    def _minors(self, hits: Sequence[_Hit]) -> Iterator[Finding]:
        """A sexual signal times a reference to a minor: the strongest of each, wherever they stand."""
        signal = max((hit for hit in hits if hit.owner.signal), key=lambda hit: hit.owner.score, default=None)
        minor = max((hit for hit in hits if hit.owner.minor), key=lambda hit: hit.owner.score, default=None)
        if signal is None or minor is None:
            return
        score = round(signal.owner.score * minor.owner.score, 6)
        entry = f"{signal.owner.name}/{signal.entry} x {minor.owner.name}/{minor.entry}"
        for hit in (signal, minor):
            yield Finding(LAYER, Category.SEXUAL_MINORS, score, entry, self._version, hit.span, hit.reading)

    def _hits(self, text: Text, normalised: Normalised) -> Iterator[_Hit]:
        seen: set[Term] = set()
        covered = [(match.start, match.end) for match in self._benign.matches(normalised) if match.reading == "plain"]
        for match in self._lexicon.matches(normalised):
            owner = self._owners[match.term.owner]
            if match.term in seen or (owner.maskable and _inside(match, covered)):
                continue
            seen.add(match.term)
            yield _hit(text, owner, match.term.text, match)
        yield from _ages(text, normalised)


def _owners(policy: Policy) -> Iterator[tuple[_Owner, TermList]]:
    """Every list in force with what its terms count for; a policy's own sexual terms are signals too."""
    for name, terms in policy.document.lists.items():
        spared = terms.category is Category.SEXUAL_MINORS
        yield _Owner(name, terms.category, terms.score, maskable=not spared), terms
        if terms.category is Category.SEXUAL:
            yield _Owner(f"{name}:signal", terms.category, terms.score, signal=True, maskable=False), terms
    floor = policy.floor
    yield _Owner(EXPLICIT, Category.SEXUAL_MINORS, floor.explicit.score, maskable=False), floor.explicit
    yield from _floor_owners("signal", floor.signals)
    yield from _floor_owners("minor", floor.minors)


def _floor_owners(side: str, lists: Mapping[str, TermList]) -> Iterator[tuple[_Owner, TermList]]:
    for name, terms in lists.items():
        owner = _Owner(
            f"floor-{side}-{name}",
            Category.SEXUAL_MINORS,
            terms.score,
            signal=side == "signal",
            minor=side == "minor",
            maskable=False,
        )
        yield owner, terms


_AGE_OWNER = _Owner("floor-minor-age", Category.SEXUAL_MINORS, 1.0, minor=True, maskable=False)


def _ages(text: Text, normalised: Normalised) -> Iterator[_Hit]:
    """The first age below eighteen; the entry does not tell which."""
    for match in _AGE.finditer(normalised.text):
        years = next((group for group in match.groups() if group is not None), "")
        if years.isdigit() and int(years) >= ADULT_AGE:
            continue
        start, end = normalised.origin(match.start(), match.end())
        yield _Hit(_AGE_OWNER, "under-18", Span(text.index, text.kind, start, end), "plain")
        return
    for inner in normalised.embedded:
        for hit in _ages(text, inner.text):
            yield replace(hit, span=Span(text.index, text.kind, inner.start, inner.end), reading="base64")


def _hit(text: Text, owner: _Owner, entry: str, match: Match) -> _Hit:
    return _Hit(owner, entry, Span(text.index, text.kind, match.start, match.end), match.reading)


def _inside(match: Match, covered: Iterable[tuple[int, int]]) -> bool:
    return any(start <= match.start and match.end <= end for start, end in covered)
