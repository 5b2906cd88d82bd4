"""Settings: every mistake at once by variable name, secrets that do not print, the standard collector variable."""

import pytest
from pydantic import Field

from mesh.config import Settings, load


class Example(Settings):
    colour: str = Field(pattern="^(red|blue)$")


def test_all_mistakes_are_told_together(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("IMAGEMESH_GRPC_PORT", "99999")
    monkeypatch.setenv("IMAGEMESH_COLOUR", "green")
    with pytest.raises(SystemExit) as caught:
        load(Example)
    told = capsys.readouterr().err
    assert caught.value.code == 2
    assert "IMAGEMESH_GRPC_PORT" in told
    assert "IMAGEMESH_COLOUR" in told


def test_secrets_do_not_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEMESH_COLOUR", "red")
    monkeypatch.setenv("IMAGEMESH_MESH_TOKEN", "very-secret-token")
    assert "very-secret-token" not in repr(load(Example))


@pytest.mark.parametrize("name", ["IMAGEMESH_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
def test_the_collector_may_be_named_by_the_standard_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("IMAGEMESH_COLOUR", "red")
    monkeypatch.setenv(name, "http://collector:4317")
    assert load(Example).telemetry("x").otlp_endpoint == "http://collector:4317"
