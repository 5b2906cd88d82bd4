"""Bad input at the edge and below it: typed errors that name the field, and work bounded by the length."""

from __future__ import annotations

import base64
import time

import pytest
from imagemesh.moderation.v1 import moderation_service_pb2 as pb2
from imagemesh.moderation.v1 import verdict_pb2

from mesh.errors import InvalidArgument
from services.moderation import normalise as module
from services.moderation.normalise import Normalised, normalise
from services.moderation.policies import Policy
from services.moderation.rules import RulesLayer
from services.moderation.verdicts import Decision, Safety, Text, TextKind, judge, texts_digest
from services.moderation.wire import texts_of

CHARACTERS = 32_000


def nested(inner: str, limit: int) -> str:
    """Base64 inside base64, as deep as fits."""
    while len(inner) * 4 / 3 < limit:
        inner = base64.b64encode(inner.encode()).decode()
    return inner


def percent(inner: str, times: int) -> str:
    for _ in range(times):
        inner = "".join(f"%{byte:02x}" for byte in inner.encode())
    return inner


HOSTILE = {
    "nested base64": nested("a nude woman", CHARACTERS),
    "nested base64 beside text": "hello " * 2_000 + nested("a nude woman", 15_000),
    "many base64 words": "YWJj " * 6_400,
    "percent of percent": "%25" * 10_600,
    "entities of entities": "&amp;" * 6_400,
    "hexadecimal": "6e" * 16_000,
    "hexadecimal by bytes": "6e " * 10_600,
    "escapes": "\\u006e" * 5_300,
    "10,000 combining marks": "n" + "\u0301" * 10_000 + "ude",
    "zalgo": "n\u0301\u0336\u0352\u0489u\u0301\u0336d\u0301e\u0489 " * 2_400,
    "lone surrogates": "n\ud800ude \udfff" * 3_000,
    "one very long word": "x" * CHARACTERS,
    "very long words": ("abcdefgh" * 490 + " ") * 8,
    "masked words": "nude study " * 2_900,
    "names": "by greg rutkowski, " * 1_600,
    "names without cues": "prince " * 2_000 + "singer " * 2_000,
    "cues without names": "by " * 6_000 + "; banksy " * 1_500,
    "ages": "she is 15 " * 3_200,
    "beginnings of phrases": "how to " * 4_500,
    "censored words": "n*d* " * 6_400,
    "ambiguous leet": "n0d3 1l|! " * 3_200,
    "spaces": " " * CHARACTERS,
    "brackets": "(" * CHARACTERS,
    "right to left and joiners": "\u202e\u200d\u2066" * 10_000,
}


@pytest.fixture(scope="module")
def rules(policy: Policy) -> RulesLayer:
    return RulesLayer(policy)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_bounded_time(rules: RulesLayer, text: str) -> None:
    assert len(text) <= CHARACTERS
    begun = time.process_time()
    rules.judge([(Text(0, TextKind.PROMPT, text), normalise(text))])
    assert time.process_time() - begun < 4.0  # a quarter of a second on a server's core


def size(text: Normalised) -> int:
    """Characters that were folded, at every depth."""
    return len(text.original) + sum(size(inner.text) for inner in text.embedded)


def depth(text: Normalised) -> int:
    return 1 + max((depth(inner.text) for inner in text.embedded), default=0)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_bounded_work(text: str) -> None:
    """What is unfolded from a text is at most a few times as long, and not deep, however it is nested."""
    normalised = normalise(text)
    assert size(normalised) <= 8 * len(text)
    assert depth(normalised) <= 32


def test_escapes_inside_escapes_are_undone_a_few_times_only() -> None:
    text = percent("nude", module.UNESCAPES + 2)
    assert depth(normalise(text)) == module.UNESCAPES + 1


READ = {
    "base64 in base64 in base64": nested("a nude woman", 100),
    "base64 by words": " ".join(base64.b64encode(word.encode()).decode() for word in ("a", "nude", "woman")),
    "base64 by lines": "\n".join(("YSBudWRlIHdv", "bWFuIG9uIGEg", "YmVk")),
    "short base64": base64.b64encode(b"nude").decode(),
    "base64 for addresses, unpadded": base64.urlsafe_b64encode(b"a nude woman??").decode().rstrip("="),
    "hexadecimal": b"a nude woman".hex(),
    "hexadecimal by bytes": b"a nude woman".hex(" "),
    "percent": percent("nude", 1),
    "percent of percent": percent("nude", 2),
    "entities": "&#110;&#x75;&#100;&#101;",
    "escapes": "\\u006e\\u0075\\x64\\u{65}",
    "percent of base64": percent(base64.b64encode(b"a nude woman").decode(), 1),
    "lone surrogates": "n\ud800u\udfffde",
    "zalgo": "n\u0301\u0336\u0352\u0489u\u0301\u0336d\u0301e\u0489",
    "10,000 combining marks": "n" + "\u0301" * 10_000 + "ude",
    "censored": "n*de woman",
    "digits everywhere": "4 nud3 w0m4n 1n b3d",
    "right to left marks": "n\u202eu\u2066de",
}


@pytest.mark.parametrize("text", READ.values(), ids=READ)
def test_what_is_hidden_is_read(rules: RulesLayer, policy: Policy, text: str) -> None:
    found = rules.judge([(Text(0, TextKind.PROMPT, text), normalise(text))])
    assert judge(found, policy.rules, Safety()).decision >= Decision.REVIEW
    for finding in found:
        assert finding.span is not None
        assert 0 <= finding.span.start < finding.span.end <= len(text)


ORDINARY = (
    "50% off, 20% more, a 100% wool sweater",
    "R&B singer at the A&W &co; diner",
    "C:\\users\\new folder on a retro screen",
    "facade1234 deadbeef cafe",
    "iPhone McLaren DeLorean eBay LaTeX GitHub",
    "a 1girl, 2boys, 8k, uhd, f/1.8, 35mm, 1/250s",
    "x+y=z on a blackboard",
    "ninja*star, *bold* text",
)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_texts_hold_nothing_encoded(rules: RulesLayer, policy: Policy, text: str) -> None:
    found = rules.judge([(Text(0, TextKind.PROMPT, text), normalise(text))])
    assert judge(found, policy.rules, Safety()).decision <= Decision.FLAG
    assert normalise(text).embedded == ()


def test_40_000_characters_are_refused_by_name() -> None:
    texts = [
        pb2.PromptText(kind=verdict_pb2.TEXT_KIND_PROMPT, text="fine"),
        pb2.PromptText(kind=verdict_pb2.TEXT_KIND_PROMPT, text="a" * 40_000),
    ]
    with pytest.raises(InvalidArgument) as raised:
        texts_of(pb2.ModeratePromptRequest(texts=texts))
    assert [violation.field for violation in raised.value.violations] == ["texts[1].text"]


def test_texts_with_lone_surrogates_have_a_digest_each() -> None:
    digests = {texts_digest([Text(0, TextKind.PROMPT, text)]) for text in ("a\ud800", "a\ud801", "a", "a?")}
    assert len(digests) == 4
