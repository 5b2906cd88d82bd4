"""The rules layer: a policy's term lists and names, personal data, and the signs of the rules over two signals.

Each entry of a list is reported once for each text, at its first place that no benign phrase covers. `read` finds,
`services.moderation.combining` puts together; `judge` does both for texts that no classifier sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from services.moderation import pii
from services.moderation.ages import minor_ages
from services.moderation.clues import Clues
from services.moderation.combining import LAYER, combine
from services.moderation.lexicon import Cover, Lexicon, Term
from services.moderation.name_files import built_in_names
from services.moderation.names import DEFAMING, NameIndex
from services.moderation.normalise import Normalised
from services.moderation.policies import Policy, TermList
from services.moderation.verdicts import Category, Finding, Span, Text, TextKind, weighted

EXPLICIT = "floor-explicit"


class _Part(StrEnum):
    """What a term counts for: it alone, or one side of the floor's rule."""

    ALONE = "alone"
    SIGNAL = "signal"
    MINOR = "minor"


@dataclass(frozen=True, slots=True)
class _Owner:
    """A list in force. maskable: benign phrases of the policy may cover its terms; the floor has its own."""

    name: str
    category: Category
    score: float
    part: _Part = _Part.ALONE
    maskable: bool = True


class RulesLayer:
    """Looks texts up in one policy's lists. Built once for each policy version; safe in any thread.

    names: the lists of names that are there; the policy says which count. Default: those that come with the service.
    """

    name = LAYER

    def __init__(self, policy: Policy, names: NameIndex | None = None) -> None:
        self._policy = policy
        self._version = f"{policy.policy_id}@{policy.version}-{policy.etag}"
        self._owners = {owner.name: owner for owner, _ in _owners(policy)}
        self._lexicon = Lexicon(Term(owner.name, term) for owner, terms in _owners(policy) for term in terms.terms)
        self._benign = Lexicon(Term("benign", phrase) for phrase in policy.document.benign_phrases)
        self._harmless = Lexicon(Term("harmless", phrase) for phrase in policy.floor.harmless)
        self._names = names or built_in_names()
        listed = {terms.category for terms in policy.document.lists.values()}
        named = {terms.category for terms in policy.document.names.values()}
        self.categories = frozenset(listed | named | {Category.SEXUAL_MINORS, Category.PII})

    def judge(self, texts: Sequence[tuple[Text, Normalised]]) -> list[Finding]:
        """Every finding in all the texts together, as if there were no classifiers."""
        return combine(self.read(texts), ())

    def read(self, texts: Sequence[tuple[Text, Normalised]]) -> Clues:
        """What the lists, names and patterns find in all the texts; negative prompts are weighed."""
        kept: dict[_Part, list[Finding]] = {part: [] for part in _Part}
        defaming: list[Finding] = []
        for text, normalised in texts:
            for part, finding in self._terms(text, normalised):
                kept[part].append(finding)
            kept[_Part.MINOR].extend(self._ages(text, normalised))
            kept[_Part.ALONE].extend(self._personal(text, normalised))
            for finding in self._named(text, normalised):
                (defaming if finding.category is Category.DEFAMATION else kept[_Part.ALONE]).append(finding)
        alone = tuple(self._weighted(finding) for finding in kept[_Part.ALONE])
        return Clues(alone, tuple(kept[_Part.SIGNAL]), tuple(kept[_Part.MINOR]), tuple(defaming))

    def _terms(self, text: Text, normalised: Normalised) -> Iterator[tuple[_Part, Finding]]:
        seen: set[Term] = set()
        benign, harmless = _cover(self._benign, normalised), _cover(self._harmless, normalised)
        for match in self._lexicon.matches(normalised):
            owner = self._owners[match.term.owner]
            covers = benign if owner.maskable else harmless
            if match.term in seen or (owner.name != EXPLICIT and covers.hides(match.start, match.end)):
                continue
            seen.add(match.term)
            entry = f"{owner.name}/{match.term.text}"
            span = Span(text.index, text.kind, match.start, match.end)
            yield owner.part, self._finding(owner.category, owner.score, entry, span, match.reading)

    def _ages(self, text: Text, normalised: Normalised) -> Iterator[Finding]:
        """The first age below eighteen; the entry does not tell which."""
        for start, end, reading in _age_places(normalised):
            span = Span(text.index, text.kind, start, end)
            yield self._finding(Category.SEXUAL_MINORS, 1.0, "floor-minor-age/under-18", span, reading)
            return

    def _personal(self, text: Text, normalised: Normalised) -> Iterator[Finding]:
        for hit in pii.find(normalised):
            span = Span(text.index, text.kind, hit.start, hit.end)
            yield self._finding(Category.PII, hit.score, f"pii/{hit.kind}", span, hit.reading)

    def _named(self, text: Text, normalised: Normalised) -> Iterator[Finding]:
        wanted = self._policy.document.names
        hits = list(self._names.find(normalised, {name: terms.category for name, terms in wanted.items()}))
        benign = _cover(self._benign, normalised) if hits else Cover(())
        for hit in hits:
            if benign.hides(hit.start, hit.end):
                continue
            span = Span(text.index, text.kind, hit.start, hit.end)
            if hit.owner == DEFAMING:
                finding = self._finding(Category.DEFAMATION, 1.0, f"{DEFAMING}/{hit.name}", span, hit.reading)
            else:
                terms = wanted[hit.owner]
                finding = self._finding(terms.category, terms.score, f"{hit.owner}/{hit.name}", span, hit.reading)
            yield replace(finding, model_version=self._names.version)

    def _finding(self, category: Category, score: float, entry: str, span: Span, reading: str) -> Finding:
        return Finding(LAYER, category, score, entry, self._version, span, reading)

    def _weighted(self, finding: Finding) -> Finding:
        negative = finding.span is not None and finding.span.kind is TextKind.NEGATIVE_PROMPT
        return weighted(finding, self._policy.document.negative_prompt_weight if negative else 1.0)


def _owners(policy: Policy) -> Iterator[tuple[_Owner, TermList]]:
    """Every list in force with what its terms count for; a policy's own sexual terms are signals too."""
    for name, terms in policy.document.lists.items():
        spared = terms.category is Category.SEXUAL_MINORS
        yield _Owner(name, terms.category, terms.score, maskable=not spared), terms
        if terms.category is Category.SEXUAL:
            yield _Owner(f"{name}:signal", terms.category, terms.score, _Part.SIGNAL, maskable=False), terms
    floor = policy.floor
    yield _Owner(EXPLICIT, Category.SEXUAL_MINORS, floor.explicit.score, maskable=False), floor.explicit
    yield from _floor_owners(_Part.SIGNAL, floor.signals)
    yield from _floor_owners(_Part.MINOR, floor.minors)


def _floor_owners(part: _Part, lists: Mapping[str, TermList]) -> Iterator[tuple[_Owner, TermList]]:
    for name, terms in lists.items():
        yield _Owner(f"floor-{part}-{name}", Category.SEXUAL_MINORS, terms.score, part, maskable=False), terms


def _age_places(text: Normalised) -> Iterator[tuple[int, int, str]]:
    """In the folded text, in disguised readings of it, and in what is encoded inside it."""
    for start, end in minor_ages(text.text):
        yield *text.origin(start, end), "plain"
    for reading in text.readings[1:]:
        words = " ".join(token.text for token in reading.tokens)
        for _ in minor_ages(words):
            first, last = reading.tokens[0], reading.tokens[-1]
            yield *text.origin(first.start, last.end), reading.name
    for inner in text.embedded:
        for _ in _age_places(inner.text):
            yield inner.start, inner.end, "base64"


def _cover(phrases: Lexicon, text: Normalised) -> Cover:
    return Cover((match.start, match.end) for match in phrases.matches(text) if match.reading == "plain")
