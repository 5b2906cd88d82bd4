"""Ages below eighteen and school years of minors, as people write them; each pattern is bounded and linear."""

from __future__ import annotations

import re
from collections.abc import Iterator

ADULT_AGE = 18
ADULT_YEAR = 13  # from this school year on pupils are adults

_SMALL = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
_WORD_AGE = f"{_SMALL}|thirteen|fourteen|fifteen|sixteen|seventeen"
_NUMBER = rf"\d{{1,3}}|{_WORD_AGE}"
_ORDINAL = (
    "first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|thirteenth|fourteenth|"
    "fifteenth|sixteenth|seventeenth"
)
_UNIT = (
    r"feet|foot|ft|cm|mm|m|km|meters?|metres?|inch(?:es)?|minutes?|hours?|seconds?|pounds?|lbs?|kg|percent|th|of|in|%"
)
_AGE = re.compile(
    rf"\b(?P<years>{_NUMBER})[\s-]{{0,3}}(?:years?|yrs?|y)[\s/.-]{{0,3}}(?:olds?|o|young)\b"
    rf"|\b(?:age|aged|ages)(?:\s+of)?[\s:]{{0,3}}(?P<aged>{_NUMBER})\b"
    rf"|\b(?P<birthday>\d{{1,3}})(?:st|nd|rd|th)\s{{1,3}}(?:birthday|bday)\b"
    rf"|\b(?:{_ORDINAL})\s{{1,3}}birthday\b"
    rf"|\b\d{{1,2}}[\s-]{{0,3}}(?:months?|weeks?|days?)[\s-]{{0,3}}old\b"
    r"|\b(?:she|he)(?:\s?['\u2019]?\s?s|\s+is|\s+looks|\s+turns|\s+was)"
    r"(?:\s+(?:only|just|barely|about|like|not even))?"
    rf"\s+(?P<told>{_NUMBER})\b(?!\s*(?:{_UNIT}))"
    rf"|\b(?:turning|turned|looks|looking|barely|only|just)\s+(?P<turning>{_NUMBER})(?=\s*(?:[,.;!?]|$|girl|boy|and\b))"
    rf"|\b(?P<figure>\d{{1,2}})\s+(?:girl|boy)\b(?!s)"
    rf"|\b(?:in\s+)?(?P<grade>\d{{1,2}})(?:st|nd|rd|th)[\s-]{{1,3}}grade(?:rs?)?\b"
)
_SIGN = re.compile(r"\d|y/?o\b|year|age|birthday|turn|look|barely|only|just|\bs?he\b|grade|month|week|day")


def minor_ages(text: str) -> Iterator[tuple[int, int]]:
    """Where the folded text names an age below eighteen."""
    if not _SIGN.search(text):
        return
    for match in _AGE.finditer(text):
        if _is_minor(match):
            yield match.start(), match.end()


def _is_minor(match: re.Match[str]) -> bool:
    limit = ADULT_YEAR if match["grade"] else ADULT_AGE
    said = next((group for group in match.groups() if group is not None), "")
    if not said.isdigit():
        return True
    if match["figure"]:
        return 3 <= int(said) < limit  # "1 girl" and "2 girl" are counts
    return int(said) < limit


__all__ = ["ADULT_AGE", "minor_ages"]
