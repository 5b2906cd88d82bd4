"""Personal data in texts: patterns with checks, and the text with placeholders in their stead.

What has a check digit must pass it; what has none, or a weak one, must be written the way people write it or stand
beside a word that says what it is ("ssn", "tel"). Patterns run over the folded text, so fullwidth digits and invisible
characters do not hide a number, and over what is encoded inside it. Each pattern is bounded; most texts are passed over
after one look for digits and at signs.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from services.moderation import check_digits as check
from services.moderation.normalise import Normalised, normalise

SURE, LIKELY, PUBLIC = 0.9, 0.65, 0.4  # scores: money and identity, a way to reach a person, an office's address
CONTEXT_CHARACTERS = 40  # before a number, in which a word may say what it is


class Hit(NamedTuple):
    """Personal data between two positions of the original text; `kind` names the pattern."""

    kind: str
    start: int
    end: int
    score: float
    reading: str = "plain"


@dataclass(frozen=True)
class _Pattern:
    """kind: also the placeholder's name. valid: takes the match without separators in upper case.

    context: words one of which must stand shortly before; never: words that must not.
    """

    kind: str
    pattern: re.Pattern[str]
    valid: Callable[[str], bool]
    score: float = SURE
    context: re.Pattern[str] | None = None
    never: re.Pattern[str] | None = None


def _anything(_: str) -> bool:
    return True


def _words(words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{words})\b")


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.]){text}(?![\w])")


def _said(kind: str, text: str, valid: Callable[[str], bool], words: str) -> _Pattern:
    return _Pattern(kind, _pattern(text), valid, context=_words(words))


def _dialled(text: str) -> _Pattern:
    return _Pattern("phone", _pattern(text), _varied, LIKELY, context=_PHONE_WORDS, never=_SEEDS)


def _varied(digits: str) -> bool:
    """Not the same digit over and over."""
    return len(set(digits)) > 2


def _international(number: str) -> bool:
    return 8 <= len(number.lstrip("+")) <= 15 and number[1] != "0"


_PHONE_WORDS = _words(
    r"(?:tele)?phones?|tel|call(?:s| me)?|mobile|cell|whatsapp|contact|fax|dial|sms|hotline|telefon|ph|handy|reach"
)
_SEEDS = _words(r"seeds?|hash|noise|isbn|sku|sref|cref|version|timestamp|model|serial|order|steps|cfg|scale")


def _ibans() -> str:
    """Each country with the length of its numbers, so that a word after the number is not taken for its end."""
    lengths = sorted(set(check.IBAN_LENGTHS.values()), reverse=True)
    countries = {n: "|".join(code for code, own in check.IBAN_LENGTHS.items() if own == n).lower() for n in lengths}
    return "(?:" + "|".join(rf"(?:{countries[n]})\d{{2}}(?: ?[a-z0-9]){{{n - 4}}}" for n in lengths) + ")"


# Surely personal: what is written in its own way and passes its check.
_CHECKED: tuple[_Pattern, ...] = (
    _Pattern("iban", _pattern(_ibans()), check.iban),
    _Pattern("card", _pattern(r"\d(?:[ -]?\d){12,18}"), check.card, never=_SEEDS),
    _Pattern("us-ssn", _pattern(r"\d{3}-\d{2}-\d{4}"), check.us_ssn),
    _Pattern("uk-nino", _pattern(r"[a-z]{2} ?\d{2} ?\d{2} ?\d{2} ?[a-d]"), check.uk_nino),
    _Pattern("es-dni", _pattern(r"(?:\d{8}|[xyz]-?\d{7})[- ]?[a-z]"), check.es_dni),
    _Pattern("it-codice-fiscale", _pattern(r"[a-z]{6}\d{2}[a-ehlmprst]\d{2}[a-z]\d{3}[a-z]"), check.it_codice_fiscale),
    _Pattern(
        "fr-nir", _pattern(r"[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?\d[\dab] ?\d{3} ?\d{3} ?\d{2}"), check.fr_nir
    ),
    _Pattern("be-national", _pattern(r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}"), check.be_national),
    _Pattern("se-personnummer", _pattern(r"(?:19|20)?\d{6}-\d{4}"), check.se_personnummer),
    _Pattern("fi-hetu", _pattern(r"[0-3]\d[01]\d{3}[-+a]\d{3}[0-9a-y]"), check.fi_hetu),
    _Pattern("br-cpf", _pattern(r"\d{3}\.\d{3}\.\d{3}-\d{2}"), check.br_cpf),
    _Pattern("in-aadhaar", _pattern(r"\d{4}([- ])\d{4}\1\d{4}"), check.in_aadhaar, never=_SEEDS),
    _Pattern("cn-resident", _pattern(r"[1-9]\d{5}(?:19|20)\d{2}[01]\d[0-3]\d{4}[\dx]"), check.cn_resident),
    _Pattern("kr-rrn", _pattern(r"\d{6}-[1-8]\d{6}"), check.kr_rrn),
    _Pattern("sg-nric", _pattern(r"[stfg]\d{7}[a-z]"), check.sg_nric),
)
# Plain digits with a check: only beside a word that says what they are.
_SAID: tuple[_Pattern, ...] = (
    _said("us-ssn", r"\d{3} ?\d{2} ?\d{4}", check.us_ssn, r"ssn|social security"),
    _said("de-tax-id", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", check.de_tax_id, r"steuer\w*|tax|tin|idnr"),
    _said("nl-bsn", r"\d{9}", check.nl_bsn, r"bsn|burgerservicenummer"),
    _said("pl-pesel", r"\d{11}", check.pl_pesel, r"pesel"),
    _said("pt-nif", r"\d{3} ?\d{3} ?\d{3}", check.pt_nif, r"nif|contribuinte"),
    _said("no-birth-number", r"\d{6} ?\d{5}", check.no_birth_number, r"f[oø]dselsnummer|fnr"),
    _said("br-cpf", r"\d{11}", check.br_cpf, r"cpf"),
    _said("ca-sin", r"\d{3}[- ]?\d{3}[- ]?\d{3}", check.ca_sin, r"sin|social insurance"),
    _said("au-tfn", r"\d{3} ?\d{3} ?\d{3}", check.au_tfn, r"tfn|tax file"),
    _said("passport", r"[a-z]{0,2}\d{6,9}[a-z]?", _anything, r"passport (?:no|nr|number|num|id)"),
)
_PHONES: tuple[_Pattern, ...] = (
    _Pattern("phone", re.compile(r"(?<![\w.+])\+ ?\d(?:[ ().-]{0,2}\d){7,14}(?!\w)"), _international, LIKELY),
    _Pattern("phone", _pattern(r"(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.-])\d{3}[ .-]\d{4}"), _varied, LIKELY),
    _Pattern("phone", _pattern(r"0[1-9](?:[ .-]\d{2}){4}"), _varied, LIKELY, never=_SEEDS),
    _Pattern("phone", _pattern(r"(?:07\d{3} ?\d{3} ?\d{3}|01[5-7]\d[ /-]\d{7,8})"), _varied, LIKELY, never=_SEEDS),
    _dialled(r"\(?0\d{1,4}\)?(?:[ ./-]?\d){6,9}"),
    _dialled(r"(?:\d{3}[ .-]){1,2}\d{4}"),
    _dialled(r"\d{10,11}"),
)
PATTERNS = (*_CHECKED, *_SAID, *_PHONES)
_EMAIL = re.compile(r"(?<![\w.+-])(?P<who>[a-z0-9][\w.+-]{0,63})@(?:[a-z0-9](?:[a-z0-9-]{0,62})\.){1,4}[a-z]{2,24}\b")
_EMAIL_SPOKEN = re.compile(
    r"(?<![\w.+-])(?P<who>[a-z0-9][\w.+-]{0,63}) ?[(\[{] ?at ?[)\]}] ?"
    r"(?:[a-z0-9][a-z0-9-]{0,62} ?(?:\.|[(\[{] ?dot ?[)\]}]) ?){1,4}[a-z]{2,24}\b"
)
_OFFICES = re.compile(
    r"info|contacts?|hello|sales|support|office|mail|admin|help|press|media|team|bookings?|reservations|shop|orders|"
    r"enquiries|inquiries|jobs|careers|no-?reply|news|newsletter|events|tickets|service|studio|feedback"
)
_SEPARATORS = re.compile(r"[ ().\-/]")
# Every pattern has six digits close together, and few prompts have them; `x` is left out for 1920x1080.
_SIX_DIGITS = re.compile(r"\d(?:[^\dx]{0,2}\d){5}")


def find(text: Normalised) -> list[Hit]:
    """Personal data in the text, first come first; hits do not overlap."""
    hits: list[Hit] = []
    for start, end, kind, score in _folded_hits(text.text):
        hits.append(Hit(kind, *text.origin(start, end), score))
    for inner in text.embedded:
        hits += [Hit(hit.kind, inner.start, inner.end, hit.score, "base64") for hit in find(inner.text)]
    return _apart(hits)


def scrub(text: str) -> str:
    """The text with each piece of personal data replaced by `[kind]`, for example `[iban]`; the rest untouched."""
    pieces, done = [], 0
    for hit in find(normalise(text)):
        pieces += [text[done : hit.start], f"[{hit.kind}]"]
        done = hit.end
    return "".join([*pieces, text[done:]])


def _folded_hits(folded: str) -> Iterator[tuple[int, int, str, float]]:
    spoken = "@" not in folded and "at" in folded and any(bracket in folded for bracket in "([{")
    if spoken or "@" in folded:
        for match in (_EMAIL_SPOKEN if spoken else _EMAIL).finditer(folded):
            yield match.start(), match.end(), "email", PUBLIC if _OFFICES.fullmatch(match["who"]) else LIKELY
    if not _SIX_DIGITS.search(folded):
        return
    for one in PATTERNS:
        for match in one.pattern.finditer(folded):
            if _counts(one, match, folded):
                yield match.start(), match.end(), one.kind, one.score


def _counts(pattern: _Pattern, match: re.Match[str], folded: str) -> bool:
    if not pattern.valid(_SEPARATORS.sub("", match[0]).upper()):
        return False
    before = folded[max(0, match.start() - CONTEXT_CHARACTERS) : match.start()]
    if pattern.never is not None and pattern.never.search(before):
        return False
    return pattern.context is None or pattern.context.search(before) is not None


def _apart(hits: list[Hit]) -> list[Hit]:
    """Without those that overlap a surer or, among equals, an earlier one."""
    kept: list[Hit] = []
    for hit in sorted(hits, key=lambda hit: (-hit.score, hit.start, -hit.end)):
        place = bisect_left(kept, hit.start, key=lambda other: other.start)
        after_previous = place == 0 or kept[place - 1].end <= hit.start
        if after_previous and (place == len(kept) or hit.end <= kept[place].start):
            kept.insert(place, hit)
    return kept


__all__ = ["Hit", "find", "scrub"]
