"""The file of plug-ins: every mistake is told, keys come from the environment and are never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.moderation.plug_ins import PlugInFileError, read_plug_ins

ENVIRONMENT = {"OPENAI_API_KEY": "sk-of-the-tests", "AWS_ACCESS_KEY_ID": "AKID", "EMPTY": ""}


def written(folder: Path, text: str) -> Path:
    path = folder / "classifiers.yaml"
    path.write_text(text)
    return path


def test_names_options_and_keys(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
classifiers:
  - {name: openai, key_env: OPENAI_API_KEY, timeout: 3}
  - name: eyes
    kind: rekognition
    region: eu-west-1
    key_env: OPENAI_API_KEY
    extra_env: {access_key_id: AWS_ACCESS_KEY_ID}
    use: required
    content: [pictures]
""",
    )
    first, second = read_plug_ins(path, ENVIRONMENT)
    assert (first.name, first.kind, first.options.timeout) == ("openai", "openai", 3)
    assert first.key.get_secret_value() == "sk-of-the-tests"
    assert (second.name, second.kind, second.options.use) == ("eyes", "rekognition", "required")
    assert second.secrets["access_key_id"].get_secret_value() == "AKID"
    assert "sk-of-the-tests" not in repr(first)
    assert "AKID" not in repr(second)


@pytest.mark.parametrize("text", ["{}", "classifiers: []"])
def test_none_at_all(text: str, tmp_path: Path) -> None:
    assert read_plug_ins(written(tmp_path, text), {}) == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("classifiers: [{name: openai, color: red}]", "classifiers.0.color"),
        ("classifiers: [{kind: openai}]", "classifiers.0.name"),
        ("classifiers: [{name: Open AI}]", "classifiers.0.name"),
        ("classifiers: [{name: a, timeout: 0}]", "classifiers.0.timeout"),
        ("classifiers: [{name: a, base_url: 'ftp://x'}]", "classifiers.0.base_url"),
        ("classifiers: [{name: a, base_url: 'https://user:pw@x'}]", "classifiers.0.base_url"),
        ("classifiers: [{name: a, labels: {nsfw: {category: NONE}}}]", "classifiers.0.labels.nsfw.category"),
        ("classifiers: [{name: a, sha256: abc}]", "classifiers.0.sha256"),
        ("classifiers: [{name: a}, {name: a}]", "a: comes twice"),
        ("classifiers: [{name: a, key_env: NOT_THERE}]", "NOT_THERE is not set"),
        ("classifiers: [{name: a, key_env: EMPTY}]", "EMPTY is not set"),
        ("- a", "classifiers.yaml"),
        ("{", "classifiers.yaml"),
    ],
)
def test_mistakes_are_told_by_key(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(PlugInFileError) as raised:
        read_plug_ins(written(tmp_path, text), ENVIRONMENT)
    assert told in str(raised.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PlugInFileError, match=r"none\.yaml"):
        read_plug_ins(tmp_path / "none.yaml", {})
