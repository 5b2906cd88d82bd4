"""The contract of every hosted classifier: what it finds, what it costs when it fails, and that no key is told."""

from __future__ import annotations

import asyncio
import itertools
import math

import pytest

from mesh.errors import Unavailable
from mesh.imaging import ImageInfo
from services.moderation.breaker import FAILURES
from services.moderation.classifiers import HOSTED, ClassifierError
from services.moderation.classifiers.hosted import OVERLAP
from services.moderation.decoding import inspect
from services.moderation.verdicts import Category, Finding, Text, TextKind
from tests.moderation.fakes.vendor import KEY
from tests.moderation.pictures import encode, scene
from tests.moderation.plug_in_rig import CASES, Case, Plug, plug_in_of, plugged_in

TEXT = Text(3, TextKind.STYLE, "a cat on a roof")
FAILURES_OF_SERVERS = ("silent", "reset", "garbage", "foreign", "huge", 401, 403, 404, 429, 500, 503)

each = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


async def judged(plug: Plug, content: str, text: Text = TEXT, data: bytes = b"") -> list[Finding]:
    if content == "texts":
        assert plug.plugged.texts is not None
        return list(await plug.plugged.texts.judge([text]))
    assert plug.plugged.pictures is not None
    return list(await plug.plugged.pictures.judge(inspect(data or encode(scene(1))).picture))


def test_every_kind_is_in_the_suite() -> None:
    assert {case.kind for case in CASES.values()} == set(HOSTED)


@each
async def test_a_label_is_a_finding_in_its_category(case: Case) -> None:
    async with plugged_in(case) as plug:
        plug.fake.found = {case.label: 0.95}
        for content in case.content:
            found = {finding.category: finding for finding in await judged(plug, content)}
            best = found[case.category]
            assert best.score >= case.least
            assert (best.layer, best.entry) == ("plug", f"plug/{case.label}")
            assert best.model_version
            if content == "texts":
                assert best.span is not None
                assert (best.span.text_index, best.span.kind) == (TEXT.index, TEXT.kind)
                assert TEXT.text[best.span.start : best.span.end] == TEXT.text


@each
async def test_harmless_content_has_no_findings_and_arrives_whole(case: Case) -> None:
    async with plugged_in(case) as plug:
        for content in case.content:
            assert await judged(plug, content) == []
        seen = [TEXT.text if content == "texts" else ImageInfo(256, 256, "png", 29470) for content in case.content]
        assert plug.fake.asked == seen


@each
async def test_only_what_it_covers_is_evaluated(case: Case) -> None:
    async with plugged_in(case) as plug:
        for classifier in (plug.plugged.texts, plug.plugged.pictures):
            if classifier is not None:
                assert case.category in classifier.capability.categories
                assert Category.ARTIST_STYLE not in classifier.capability.categories
                assert classifier.capability.external
        assert (plug.plugged.texts is None) == ("texts" not in case.content)
        assert (plug.plugged.pictures is None) == ("pictures" not in case.content)


@each
@pytest.mark.parametrize("failure", FAILURES_OF_SERVERS)
async def test_a_failure_is_unavailable_and_names_no_key(
    case: Case, failure: int | str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    async with plugged_in(case, timeout=0.2 if failure == "silent" else 5.0) as plug:
        plug.fake.failure = failure
        with pytest.raises(Unavailable) as raised:
            await judged(plug, case.content[0])
        assert raised.value.retry_after
        told = "".join(
            [repr(raised.value), raised.value.message, caplog.text, *capsys.readouterr(), repr(plug.plug_in)]
        )
        assert KEY not in told
        assert TEXT.text not in told


@each
async def test_a_wrong_key_is_unavailable(case: Case) -> None:
    async with plugged_in(case, key="another-key") as plug:
        with pytest.raises(Unavailable):
            await judged(plug, case.content[0])
        assert plug.fake.asked == []


@each
async def test_the_breaker_opens_and_health_says_so(case: Case) -> None:
    async with plugged_in(case) as plug:
        await plug.plugged.check()
        plug.fake.failure = 503
        for _ in range(FAILURES):
            with pytest.raises(Unavailable, match="503"):
                await judged(plug, case.content[0])
        plug.fake.failure = None
        with pytest.raises(Unavailable, match="breaker"):
            await judged(plug, case.content[0])
        with pytest.raises(Unavailable):
            await plug.plugged.check()
        assert plug.fake.asked == []


@each
async def test_content_that_is_refused_opens_nothing(case: Case) -> None:
    async with plugged_in(case) as plug:
        plug.fake.failure = 400
        for _ in range(FAILURES + 1):
            with pytest.raises(Unavailable, match="400"):
                await judged(plug, case.content[0])
        await plug.plugged.check()


@each
async def test_many_at_once(case: Case) -> None:
    async with plugged_in(case) as plug:
        await asyncio.gather(*(judged(plug, case.content[0]) for _ in range(40)))
        assert len(plug.fake.asked) == 40


PICTURES = {
    "WebP": encode(scene(1), ".webp"),
    "one pixel": encode(scene(1, 64).resize(1 / 64)),
    "thin": encode(scene(1, 64).resize(60, vscale=0.1)),
    "16 bits": encode(scene(1).colourspace("rgb16")),
    "alpha": encode(scene(1).bandjoin(128)),
    "wide": encode(scene(1, 5_000).crop(0, 0, 5_000, 900), ".jpg"),
    "heavy": encode(scene(1, 1_500), ".png[compression=0]"),
}


@pytest.mark.parametrize("data", PICTURES.values(), ids=PICTURES)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "pictures" in case.content])
async def test_pictures_are_made_to_fit(name: str, data: bytes) -> None:
    async with plugged_in(CASES[name]) as plug:
        plug.fake.found = {CASES[name].label: 0.95}
        assert CASES[name].category in {finding.category for finding in await judged(plug, "pictures", data=data)}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "texts" in case.content])
async def test_a_long_text_goes_in_pieces_that_overlap(name: str) -> None:
    text = Text(0, TextKind.PROMPT, " ".join(f"word{number}" for number in range(3_500)))
    async with plugged_in(CASES[name]) as plug:
        plug.fake.found = {CASES[name].label: 0.95}
        found = await judged(plug, "texts", text)
        spans = sorted({(finding.span.start, finding.span.end) for finding in found if finding.span})
        assert spans[0][0] == 0
        assert spans[-1][1] == len(text.text)
        assert all(after[0] <= before[1] - OVERLAP for before, after in itertools.pairwise(spans))
        assert sorted(map(str, plug.fake.asked)) == sorted(text.text[start:end] for start, end in spans)


async def test_openai_scores_no_hate_in_pictures() -> None:
    async with plugged_in(CASES["openai"]) as plug:
        assert plug.plugged.pictures is not None
        wanted = {Category.SEXUAL, Category.VIOLENCE, Category.GORE, Category.SELF_HARM}
        assert plug.plugged.pictures.capability.categories == wanted


async def test_an_unknown_likelihood_is_no_judgement() -> None:
    async with plugged_in(CASES["google-vision"]) as plug:
        plug.fake.found = {"UNKNOWN": 1.0}
        with pytest.raises(Unavailable):
            await judged(plug, "pictures")


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["openai", "huggingface texts"])
async def test_a_score_that_is_no_number_is_no_judgement(name: str, score: float) -> None:
    async with plugged_in(CASES[name]) as plug:
        plug.fake.found = {CASES[name].label: score}
        with pytest.raises(Unavailable):
            await judged(plug, CASES[name].content[0])


@pytest.mark.parametrize(
    "said", ["maybe", "i am sorry, i cannot help with that", "unsafe", "unsafe\ns99", "safe\nunsafe"]
)
async def test_a_guard_that_says_something_else_is_no_judgement(said: str) -> None:
    async with plugged_in(CASES["chat-guard"]) as plug:
        plug.fake.found = {said: 1.0}
        with pytest.raises(Unavailable):
            await judged(plug, "texts")


async def test_another_models_labels_are_no_judgement() -> None:
    case = CASES["huggingface texts"]
    other = {"toxic": {"category": "HARASSMENT"}}
    async with plugged_in(case, labels=other) as plug:
        with pytest.raises(Unavailable):
            await judged(plug, "texts")


@pytest.mark.parametrize(
    ("name", "wrong", "told"),
    [
        ("openai", {"key": "", "base_url": ""}, "key_env"),
        ("google-vision", {"key": ""}, "key_env"),
        ("rekognition", {"region": ""}, "region"),
        ("azure-content-safety", {"base_url": ""}, "base_url"),
        ("chat-guard", {"model": ""}, "model"),
        ("huggingface texts", {"labels": {}}, "labels"),
        ("huggingface texts", {"content": ("texts", "pictures")}, "content"),
        ("openai", {"kind": "nobody"}, "kind"),
    ],
)
def test_missing_options_are_told(name: str, wrong: dict[str, object], told: str) -> None:
    from services.moderation.classifiers import Caller, plug

    wrong = dict(wrong)
    key = str(wrong.pop("key", KEY))
    plug_in = plug_in_of(CASES[name], "http://127.0.0.1:1", key)
    options = plug_in.options.model_copy(update=wrong)
    with pytest.raises(ClassifierError, match=told):
        plug(type(plug_in)(options, plug_in.key, plug_in.secrets), Caller())
