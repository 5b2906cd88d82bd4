"""Names of public figures, brands, characters and living artists, looked up in a normalised text.

All lists of a process are in one lexicon that the policies share; a policy says which lists count, for what and how
much. A name that is also a common word (`Apple?` in the file) counts only beside a cue ("apple logo", "the singer
Prince"), and an artist's name only where it is asked for as a style ("in the style of X", "by X, Y and Z", or standing
alone between commas, as people write for image models). Cues are data too: `gazetteers/cues.yaml`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from services.moderation.lexicon import Lexicon, Match, Term
from services.moderation.normalise import Normalised
from services.moderation.verdicts import Category

DEFAMING = "defaming"  # the owner of hits that are situations, not names
CHAIN = 40  # characters between two artists of one "by X, Y and Z"

_BEFORE, _AFTER = ":before", ":after"
_SENTENCE_END = re.compile(r"[.!?;\n]")
_ALONE_BEFORE = re.compile(r"[,|;(\[{]\s*$")
_ALONE_AFTER = re.compile(r"^\s*(?::[\d.]+)?\s*(?:[,|;)\]}]|\.?$)")


class Name(NamedTuple):
    """One spelling of a name. canonical: what the evidence calls it. plain: it counts without a cue."""

    spelling: str
    canonical: str
    plain: bool = True


@dataclass(frozen=True)
class Cues:
    """Words that tell a name from a common word. reach: characters that may lie between a cue and the name."""

    before: Sequence[str] = ()
    after: Sequence[str] = ()
    reach: int = 3


class NameHit(NamedTuple):
    """A name between two positions of the original text; `owner` is the list's name or `DEFAMING`."""

    owner: str
    name: str
    start: int
    end: int
    reading: str


class NameIndex:
    """Every list of names of a process; immutable, safe in any thread. `version` changes with any of it."""

    def __init__(
        self, lists: Mapping[str, Sequence[Name]], cues: Mapping[Category, Cues], defaming: Sequence[str] = ()
    ) -> None:
        self.lists = frozenset(lists)
        self._names = {(owner, name.spelling): name for owner, names in lists.items() for name in names}
        self._lexicon = Lexicon(Term(owner, spelling) for owner, spelling in self._names)
        self._cues = dict(cues)
        self._cue_lexicon = Lexicon(_cue_terms(cues))
        self._defaming = Lexicon(Term(DEFAMING, situation) for situation in defaming)
        digest = sha256(repr((sorted(self._names.items()), sorted(cues.items()), tuple(defaming))).encode())
        self.version = f"names-{digest.hexdigest()[:12]}"

    def find(self, text: Normalised, wanted: Mapping[str, Category]) -> Iterator[NameHit]:
        """Each name of the wanted lists once, at its first place where it counts, then defaming situations.

        wanted: the lists that count, with what for. Situations are looked for only where a public figure was found.
        """
        matches = [match for match in self._lexicon.matches(text) if match.term.owner in wanted]
        if not matches:
            return
        places = _Places(text, self._cues, list(self._cue_lexicon.matches(text)))
        seen: set[tuple[str, str]] = set()
        for match in sorted(matches, key=lambda found: found.start):
            owner, name = match.term.owner, self._names[match.term.owner, match.term.text]
            if (owner, name.canonical) not in seen and places.count(match, name, wanted[owner]):
                seen.add((owner, name.canonical))
                yield NameHit(owner, name.canonical, match.start, match.end, match.reading)
        if any(wanted[owner] is Category.PUBLIC_FIGURE for owner, _ in seen):
            for match in self._defaming.matches(text):
                yield NameHit(DEFAMING, match.term.text, match.start, match.end, match.reading)


def _cue_terms(cues: Mapping[Category, Cues]) -> Iterator[Term]:
    for category, words in cues.items():
        yield from (Term(category + _BEFORE, word) for word in words.before)
        yield from (Term(category + _AFTER, word) for word in words.after)


class _Places:
    """Decides for one text which names stand where they count."""

    def __init__(self, text: Normalised, cues: Mapping[Category, Cues], found: Sequence[Match]) -> None:
        self._original = text.original
        self._cues = cues
        self._ends: dict[Category, list[int]] = {}
        self._starts: dict[Category, list[int]] = {}
        self._encoded: set[tuple[Category, int]] = set()
        for match in found:
            category, side = match.term.owner.split(":")
            kind = Category(category)
            if match.reading == "base64":
                self._encoded.add((kind, match.start))
            elif side == "before":
                self._ends.setdefault(kind, []).append(match.end)
            else:
                self._starts.setdefault(kind, []).append(match.start)
        for places in (*self._ends.values(), *self._starts.values()):
            places.sort()
        self._styled_until = -CHAIN - 1

    def count(self, match: Match, name: Name, category: Category) -> bool:
        """Whether the name counts at this place; to be asked from left to right."""
        if category is Category.ARTIST_STYLE:
            return self._styled(match)
        return name.plain or self._cued(match, category)

    def _styled(self, match: Match) -> bool:
        styled = self._cued(match, Category.ARTIST_STYLE) or self._follows(match.start) or self._alone(match)
        if styled:
            self._styled_until = match.end
        return styled

    def _cued(self, match: Match, category: Category) -> bool:
        if match.reading == "base64":
            return (category, match.start) in self._encoded
        reach = self._cues[category].reach if category in self._cues else 0
        before, after = self._ends.get(category, []), self._starts.get(category, [])
        return _any_between(before, match.start - reach, match.start) or _any_between(
            after, match.end, match.end + reach
        )

    def _follows(self, start: int) -> bool:
        between = self._original[self._styled_until : start] if 0 <= start - self._styled_until <= CHAIN else "."
        return not _SENTENCE_END.search(between)

    def _alone(self, match: Match) -> bool:
        """Between commas or brackets with nothing else, as a keyword of a list."""
        before = self._original[max(0, match.start - 4) : match.start]
        after = self._original[match.end : match.end + 8]
        return bool(_ALONE_BEFORE.search(before) and _ALONE_AFTER.search(after))


def _any_between(places: list[int], first: int, last: int) -> bool:
    """Whether one of the sorted places lies from `first` to `last`."""
    at = bisect_left(places, first)
    return at < len(places) and places[at] <= last


__all__ = ["DEFAMING", "Cues", "Name", "NameHit", "NameIndex"]
