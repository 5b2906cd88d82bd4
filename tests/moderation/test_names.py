"""Names: which count where, and what the default policy makes of them. The tables are the specification."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.moderation.name_files import BUILT_IN, NameFileError, built_in_names, read_names
from services.moderation.normalise import normalise
from services.moderation.policies import Policy, PolicyDocument
from services.moderation.rules import RulesLayer
from services.moderation.verdicts import Category, Decision, Judgement, Safety, Text, TextKind, judge

NAMED = {
    "portrait of elon musk": "public-figures/Elon Musk",
    "photo of BEYONCÉ on stage": "public-figures/Beyonce",
    "président Macron à table": "public-figures/Emmanuel Macron",
    "the singer Prince in purple": "public-figures/Prince Rogers Nelson",
    "madonna singing in a stadium": "public-figures/Madonna",
    "d o n a l d t r u m p at a desk": "public-figures/Donald Trump",
    "tаylor swіft in a field": "public-figures/Taylor Swift",
    "Apple logo on a wall": "brands-and-characters/Apple",
    "a Shell petrol station at night": "brands-and-characters/Shell",
    "an Amazon delivery van": "brands-and-characters/Amazon",
    "a red jaguar car": "brands-and-characters/Jaguar",
    "spider man swinging over a city": "brands-and-characters/Spider-Man",
    "a can of coca-cola": "brands-and-characters/Coca-Cola",
    "castle in the style of greg rutkowski": "living-artists/Greg Rutkowski",
    "a fox, by loish": "living-artists/Lois van Baarle",
    "wlop style portrait": "living-artists/WLOP",
    "elf queen, artgerm, 8k": "living-artists/Stanley Lau",
    "a river (damien hirst:1.2)": "living-artists/Damien Hirst",
}
NOT_NAMED = (
    "an apple on a table",
    "red apples in a bowl, still life",
    "a sea shell on the beach",
    "the prince rides to the castle",
    "amazon rainforest from above",
    "the river jordan at dawn",
    "a jaguar resting on a branch",
    "a dove in flight",
    "a target on an archery range",
    "a subway station in the rain",
    "an oracle in a temple",
    "frozen lake in winter",
    "a virgin forest in a delta",
    "a puma in the mountains",
    "pink roses, madonna lily",
    "sting of a bee, macro",
    "a drake and a duck on a pond",
    "portrait of damien hirst in his kitchen",
    "a hulk of an old ship, thor's hammer in norse myth",
    "visa stamp in a passport",
    "a corona around the sun",
    "camel caravan in the desert",
    "a king, prince and queen in a throne room",
    "the prince giving a speech",
    "an apple box in a market, a shell bag",
    "a goofy character with big eyes",
    "a trump card on the table",
    "adele bloch-bauer, golden portrait",
    "a drake, a hulk and a thor in a folk tale",
    "a corvette of the royal navy, 1942",
    "a swatch of supreme quality",
    "the new target of the archer",
    "a tide pool with a sprite",
    "ford across the river, horses",
)


def decided(policy: Policy, text: str) -> Judgement:
    given = Text(0, TextKind.PROMPT, text)
    return judge(RulesLayer(policy).judge([(given, normalise(text))]), policy.rules, Safety())


def entries(policy: Policy, text: str) -> set[str]:
    return {evidence.finding.entry for evidence in decided(policy, text).evidence}


@pytest.mark.parametrize(("text", "entry"), NAMED.items())
def test_named(policy: Policy, text: str, entry: str) -> None:
    assert entries(policy, text) == {entry}


@pytest.mark.parametrize("text", NOT_NAMED)
def test_not_named(policy: Policy, text: str) -> None:
    assert decided(policy, text).decision is Decision.ALLOW


def test_artists_of_one_list_all_count(policy: Policy) -> None:
    found = entries(policy, "a city by artgerm, wlop and ilya kuvshinov, 4k")
    assert found == {"living-artists/Stanley Lau", "living-artists/WLOP", "living-artists/Ilya Kuvshinov"}


@pytest.mark.parametrize("name", ["Cristiano Ronaldo", "Angela Merkel", "Morgan Freeman"])
def test_a_public_figure_who_is_only_named_is_flagged(policy: Policy, name: str) -> None:
    assert decided(policy, f"a portrait of {name}, oil on canvas").decision is Decision.FLAG


HIGHER = (
    "nude taylor swift",
    "sexy scarlett johansson in lingerie",
    "joe biden covered in blood",
    "donald trump arrested, in handcuffs",
    "emmanuel macron taking a bribe",
)


@pytest.mark.parametrize("text", HIGHER)
def test_a_bad_context_weighs_more(policy: Policy, text: str) -> None:
    assert decided(policy, text).decision >= Decision.REVIEW


def test_the_same_situation_without_a_public_figure_defames_nobody(policy: Policy) -> None:
    assert Category.DEFAMATION not in {score.category for score in decided(policy, "a thief in handcuffs").scores}


def test_evidence_points_at_the_name(policy: Policy) -> None:
    text = "a photo of Ｅｌｏｎ Musk"
    (evidence,) = decided(policy, text).evidence
    span = evidence.finding.span
    assert span is not None
    assert text[span.start : span.end] == "Ｅｌｏｎ Musk"
    assert evidence.finding.model_version == built_in_names().version


@pytest.mark.parametrize("name", ["public-figures", "brands-and-characters", "living-artists"])
def test_each_built_in_list_has_several_hundred_names(name: str) -> None:
    lines = (BUILT_IN / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert len({line for line in lines if line and not line.startswith("#")}) >= 300


def test_a_policy_says_which_lists_count(policy: Policy) -> None:
    document = policy.document.model_copy(update={"names": {"public-figures": policy.document.names["public-figures"]}})
    lighter = policy.model_copy(update={"document": document})
    assert entries(lighter, "pikachu with elon musk, by wlop") == {"public-figures/Elon Musk"}


def test_an_operators_own_list(policy: Policy, tmp_path: Path) -> None:
    (tmp_path / "our-board.txt").write_text("# ours\nJane Q Doe | Chairwoman Doe\nReed? | President Reed\n")
    names = read_names(tmp_path)
    assert {"our-board", "public-figures"} <= names.lists
    raw = policy.document.model_dump()
    raw["names"]["our-board"] = {"category": "PUBLIC_FIGURE", "score": 0.5}
    own = policy.model_copy(update={"document": PolicyDocument.model_validate(raw)})
    rules = RulesLayer(own, names)

    def found(text: str) -> list[str]:
        return [finding.entry for finding in rules.judge([(Text(0, TextKind.PROMPT, text), normalise(text))])]

    assert found("chairwoman doe in a garden") == ["our-board/Jane Q Doe"]
    assert found("a reed by the lake") == []
    assert found("senator reed at a lake") == ["our-board/Reed"]


def test_mistakes_are_told_by_line(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("Good Name\n...\n| x\n" + "y" * 81 + "\n")
    with pytest.raises(NameFileError) as raised:
        read_names(tmp_path)
    assert [line.split(":")[1] for line in str(raised.value).splitlines()] == ["2", "3", "4"]


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(NameFileError, match="no folder"):
        read_names(tmp_path / "nowhere")
