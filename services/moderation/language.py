"""The language gate: which texts the English layers cannot judge.

It must not take short prompts, names or lists of style words for a foreign language, so it speaks only when it is sure:
a text of common English words passes without a further look, few words pass, and what is left must be another language
with high probability by py3langid (BSD-2-Clause, offline). Where the policy names languages, a text in none of them is
decided as the policy's review tier is, unless another classifier that knows the language judged it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from services.moderation.normalise import Normalised
from services.moderation.policies import Policy
from services.moderation.verdicts import Category, Decision, Finding, Span, Text

LAYER = "language"
VERSION = "py3langid-0.2"
ENGLISH = "en"
ENGLISH_WORDS = Path(__file__).parent / "models" / "english.txt"  # written by `make train-moderation`
KNOWN_SHARE = 0.5  # of a text's words; from there on it is English
FEWEST_WORDS = 4  # of a text in Latin letters
FEWEST_LETTERS = 2  # of a text in other letters
SURE = 0.9
MOST_NAMES = 6  # capitalised words and nothing else: names
LOOKED_AT = 400  # words

# What is judged by what words mean in English; names, marks and personal data are found in any language.
BOUND: tuple[Category, ...] = (
    Category.SEXUAL,
    Category.SEXUAL_MINORS,
    Category.VIOLENCE,
    Category.GORE,
    Category.HATE,
    Category.HARASSMENT,
    Category.SELF_HARM,
    Category.ILLEGAL,
    Category.WEAPONS,
    Category.DEFAMATION,
)


@dataclass(frozen=True)
class Foreign:
    """A text that is in none of the policy's languages. language: BCP 47 primary tag."""

    text: Text
    language: str


def looks_english(text: Normalised) -> bool:
    """A cheap first look: common English words, or too little to tell."""
    other_script = _foreign_letters(text.original) >= FEWEST_LETTERS
    words = [word.text for word in text.readings[0].tokens[:LOOKED_AT] if len(word.text) > 1]
    if not other_script:
        words = [word for word in words if word.isalpha()]
        if len(words) < FEWEST_WORDS or (len(words) <= MOST_NAMES and text.original.istitle()):
            return True
    known = _english_words()
    return bool(words) and sum(word in known for word in words) >= KNOWN_SHARE * len(words)


def language_of(text: Normalised) -> str:
    """The language's tag; English where nothing else is sure. Loads the identifier once, which takes about a second."""
    if looks_english(text):
        return ENGLISH
    shown = " ".join(text.original.split()[:LOOKED_AT])
    language, probability = _identifier().classify(shown)
    if _foreign_letters(shown) * 2 > sum(character.isalpha() for character in shown):
        return str(language) if language != ENGLISH else "und"
    return str(language) if probability >= SURE else ENGLISH


def foreign(texts: Iterable[tuple[Text, Normalised]], policy: Policy) -> list[Foreign]:
    """The texts in languages that the policy does not name; none where it names no languages."""
    known = _named(policy)
    if not known:
        return []
    found = (Foreign(text, language_of(normalised)) for text, normalised in texts)
    return [each for each in found if each.language not in known]


def findings(found: Sequence[Foreign], policy: Policy, judged: frozenset[Category]) -> list[Finding]:
    """One for each category that nobody judged in the first foreign text; empty when others judged all."""
    if not found:
        return []
    first = found[0]
    span = Span(first.text.index, first.text.kind, 0, len(first.text.text))
    tier = Decision[policy.document.review_decision]
    return [
        Finding(LAYER, category, 0.0, f"{LAYER}/{first.language}", VERSION, span, "plain", tier)
        for category in unjudged(judged)
    ]


def counted(finding: Finding, policy: Policy) -> Finding | None:
    """A finding of the gate as another version counts it; None where that minds no languages, or names this one."""
    known = _named(policy)
    if not known or finding.entry.removeprefix(f"{LAYER}/") in known:
        return None
    return replace(finding, at_least=Decision[policy.document.review_decision])


def unjudged(judged: frozenset[Category]) -> list[Category]:
    """The categories that English layers alone would have judged."""
    return [category for category in BOUND if category not in judged]


def _named(policy: Policy) -> set[str]:
    return {tag.split("-")[0].lower() for tag in policy.document.languages}


def _foreign_letters(text: str) -> int:
    """Letters of other scripts than Latin."""
    return sum(
        character.isalpha() and not character.isascii() and not unicodedata.name(character, "").startswith("LATIN")
        for character in unicodedata.normalize("NFKC", text[:4_000])
    )


@cache
def _english_words() -> frozenset[str]:
    return frozenset(ENGLISH_WORDS.read_text(encoding="utf-8").split())


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_pickled_model(MODEL_FILE, norm_probs=True)
