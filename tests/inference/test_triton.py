"""The launcher, and what only a real Triton can show: spans from its own process, and a stub that dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.local import triton as launcher
from mesh import telemetry
from mesh.telemetry import TraceContext
from services.inference.catalog import Models
from services.inference.engine.errors import Canceled, EngineUnavailable
from services.inference.engine.facts import Finished, Progress, Stage
from services.inference.engine.manifest import read_models
from services.inference.engine.request import Wanted
from services.inference.engines.base import State
from services.inference.engines.triton import TritonConfig, TritonEngine
from services.inference.spans import record_stages
from services.inference.triton_repository import RepositoryConfig, model_config
from services.inference.triton_shim.session import at_times
from tests.conftest import ROOT
from tests.inference.conftest import RunningTriton, eventually, until_drawing

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def test_check_says_yes_or_why_in_one_line() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "deploy.local.triton", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert answer.returncode in (0, launcher.CANNOT_RUN)
    assert len(answer.stderr.splitlines()) == (0 if answer.returncode == 0 else 1)


def test_libpython_is_looked_for_where_it_is_told(tmp_path: Path) -> None:
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    assert launcher.find_libpython([tmp_path]) is None
    (tmp_path / name).touch()
    assert launcher.find_libpython([tmp_path / "none", tmp_path]) == tmp_path / name


@pytest.mark.parametrize(
    ("what", "replacement", "says"),
    [
        ("find_libpython", lambda: None, "no shared libpython"),
        ("platform.machine", lambda: "aarch64", "x86-64 Linux"),
        ("importlib.util.find_spec", lambda _: None, "nvidia-pytriton is not installed"),
        ("importlib.metadata.version", lambda _: "2.1.0", "numpy < 2"),
    ],
)
def test_what_is_missing_is_one_line_and_status_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str, replacement: Any, says: str
) -> None:
    monkeypatch.setattr(f"deploy.local.triton.{what}", replacement)
    assert launcher.main(["--check"]) == launcher.CANNOT_RUN
    [line] = capsys.readouterr().err.splitlines()
    assert says in line


def test_a_wrong_manifest_stops_the_launcher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if launcher.main(["--check"]) != 0:
        pytest.skip("Triton cannot run here")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.yaml").write_text("id: m")
    assert launcher.main(["--models", str(tmp_path), "--work-dir", str(tmp_path / "work")]) == 2
    assert "model.yaml" in capsys.readouterr().err
    assert launcher.main([]) == 2


def test_the_work_folder_holds_every_model_and_loads_those_with_weights(models_folder: Path, tmp_path: Path) -> None:
    if launcher.main(["--check"]) != 0:
        pytest.skip("Triton cannot run here")
    options = launcher.parse(["--models", str(models_folder), "--work-dir", str(tmp_path), "--grpc-port", "1"], {})
    assert launcher.prepare_repository(options) == ["tiny"]
    (tmp_path / "unloaded.json").write_text('["tiny"]')
    options.model_wishes = str(tmp_path / "unloaded.json")
    assert launcher.prepare_repository(options) == []
    installation = launcher.unpack_wheel(launcher.find_wheel(), tmp_path)
    assert (tmp_path / "backends" / "python" / "triton_python_backend_stub").is_file()
    assert sorted(p.name for p in (tmp_path / "repository").iterdir()) == ["absent", "tiny"]
    command = launcher.server_command(installation, options, ["tiny"])
    assert "--load-model=tiny" in command
    assert all("=127.0.0.1" in part for part in command if "-address" in part)


def test_the_vendors_installation_is_used_where_it_exists(tmp_path: Path) -> None:
    assert launcher.find_vendor(tmp_path) is None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tritonserver").touch()
    found = launcher.find_vendor(tmp_path)
    assert found is not None
    assert found.backends == tmp_path / "backends"
    assert "LD_LIBRARY_PATH" not in found.environment
    assert launcher.main(["--check", "--triton-home", str(tmp_path)]) == 0


def test_options_come_from_the_environment() -> None:
    options = launcher.parse([], {"IMAGEMESH_TRITON_GRPC_PORT": "9", "IMAGEMESH_MODELS": "/m"})
    assert (options.grpc_port, options.models, options.metrics_port) == (9, "/m", 7406)


def test_a_models_config_quotes_what_it_tells(models_folder: Path) -> None:
    model = read_models(models_folder)["tiny"]
    text = model_config(model, RepositoryConfig(root=Path('/a "b"'), slots=3))
    assert 'key: "root" value { string_value: "/a \\"b\\"" }' in text
    assert 'key: "slots" value { string_value: "3" }' in text
    assert "decoupled: true" in text


def spans_of(folder: Path, trace_id: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return [line for line in lines if line["trace_id"] == trace_id and line["event"] == "end"]


async def test_tritons_spans_are_children_of_the_callers(
    triton: RunningTriton, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TritonEngine(TritonConfig(triton.target))
    await engine.start()
    await until_drawing(engine)
    monkeypatch.setattr("services.inference.engines.triton.telemetry.current", lambda: TraceContext(PARENT))
    drawing = models.settle(Wanted("tiny", "a red star", request_id="traced", steps=25), "")
    assert isinstance([fact async for fact in engine.draw(drawing)][-1], Finished)
    await eventually(lambda: len(spans_of(triton.telemetry, TRACE)) == 6)
    steps = [span for span in spans_of(triton.telemetry, TRACE) if span["name"] == "steps"]
    spans = [span for span in spans_of(triton.telemetry, TRACE) if span["name"] != "steps"]
    assert [span["name"] for span in spans] == ["triton.queue", "encode", "denoise", "decode"]
    assert {span["parent_id"] for span in spans} == {"b7ad6b7169203331"}
    assert [(s["attributes"]["imagemesh.first"], s["attributes"]["imagemesh.last"]) for s in steps] == [
        (1, 10),
        (11, 20),
    ]
    assert {span["parent_id"] for span in steps} == {spans[2]["span_id"]}
    assert {span["service"] for span in spans} == {"triton"}
    assert spans[2]["attributes"]["imagemesh.steps"] == 25
    assert "red star" not in json.dumps(spans)
    await engine.stop()


def test_the_stage_that_failed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[tuple[str, str]] = []
    monkeypatch.setattr(telemetry, "record_span", lambda name, **rest: recorded.append((name, rest["error"])))
    error = Canceled("left")
    error.stages = (Stage("queue", 1, 2, {}), Stage("encode", 2, 3, {}), Stage("denoise", 3, 4, {}))
    record_stages("engine", error, TraceContext(PARENT))
    assert recorded == [("engine.queue", ""), ("encode", ""), ("denoise", "CANCELED")]
    record_stages("engine", error, TraceContext())
    assert len(recorded) == 3


def test_whether_the_caller_left_is_asked_now_and_then() -> None:
    now, asked = 0.0, list[float]()

    def left() -> bool:
        asked.append(now)
        return now > 1

    ask, told = at_times(left, lambda: now), list[float]()
    for step in range(12):
        now = step / 8
        told += [now] if ask() else []
    assert (asked, told) == ([0.25, 0.5, 0.75, 1.0, 1.25], [1.25])


async def test_no_triton_is_unavailable(models: Models) -> None:
    engine = TritonEngine(TritonConfig("127.0.0.1:1", call_seconds=5))
    await engine.start()
    drawing = models.settle(Wanted("tiny", "a star"), "")
    for call in (engine.ready(), engine.statuses(), engine.busy("tiny"), anext(engine.draw(drawing))):
        with pytest.raises(EngineUnavailable):
            await call
    await engine.stop()


@pytest.mark.timeout(180)
async def test_a_dead_stub_ends_its_drawings_and_is_brought_back(kept_triton: RunningTriton, models: Models) -> None:
    engine = TritonEngine(TritonConfig(kept_triton.target, silence_seconds=0.5))
    await engine.start()
    await until_drawing(engine)
    drawing = models.settle(Wanted("tiny", "a star", request_id="lost", steps=150, width=128, height=128), "")
    with pytest.raises(EngineUnavailable):
        async for fact in engine.draw(drawing):
            if isinstance(fact, Progress) and fact.step == 2:
                [stub] = kept_triton.stubs()
                os.kill(stub, signal.SIGKILL)
    # Triton itself may fall over its dead stub while it reloads; it is then started again with the model.
    with suppress(EngineUnavailable):
        assert (await engine.statuses())["tiny"].state in (State.LOADING, State.FAILED)
    await until_drawing(engine, failed_is_final=False)
    again = replace(drawing, steps=2, request_id="again")
    assert isinstance([fact async for fact in engine.draw(again)][-1], Finished)
    await engine.stop()
