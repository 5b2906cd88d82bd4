"""The command over the real launcher: the whole mesh up and away again, and the short orders on an empty home."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.local.home import Home
from deploy.local.orders import status_of
from deploy.local.strays import find_strays

COMMAND = (sys.executable, "-m", "imagemesh.cli.main")
UP_SECONDS = 200


def environment(home: Home) -> dict[str, str]:
    """In process, so that it is the same everywhere; Triton has tests of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEMESH_")}
    return {**clean, "IMAGEMESH_HOME": str(home.root), "IMAGEMESH_INFERENCE_ENGINE": "inprocess"}


def run(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *arguments]
    return subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def mesh_up(home: Home) -> Iterator[subprocess.Popen[str]]:
    """`imagemesh up` as a person runs it, from the moment it says so."""
    command = [*COMMAND, "up"]
    with subprocess.Popen(
        command, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as up:
        assert up.stdout is not None
        said = []
        for line in up.stdout:
            said.append(line)
            if line.startswith("up:"):
                break
        assert up.poll() is None, "".join(said)
        assert sum("development key " in line for line in said) == 2, "the file's name and, this once, the key"
        try:
            yield up
        finally:
            up.kill()


@pytest.mark.timeout(UP_SECONDS)
def test_a_mesh_is_up_draws_and_leaves_nothing_after_ctrl_c(home: Home, tmp_path: Path) -> None:
    with mesh_up(home) as up:
        drawn = run(home, "generate", "a red circle", "--seed", "7", "--json", "-o", str(tmp_path / "red.png"))
        assert drawn.returncode == 0, drawn.stderr
        job = json.loads(drawn.stdout)
        assert (tmp_path / "red.png").read_bytes().startswith(b"\x89PNG")
        status = json.loads(run(home, "status", "--json").stdout)
        assert {process["state"] for process in status["processes"]} == {"ready"}
        trace = json.loads(run(home, "trace", job["jobId"], "--json").stdout)
        assert trace["spans"][0]["service"] == "command"
        assert sum(not span["parentId"] for span in trace["spans"]) == 1, "one root: the command's own span"
        up.send_signal(signal.SIGINT)
        said, _ = up.communicate(timeout=90)
    assert up.returncode == 0
    assert "stopped, no process is left" in said
    assert find_strays(home.root) == []
    assert status_of(home).kind == "stopped"
    afterwards = run(home, "trace", job["jobId"])
    assert afterwards.returncode == 0, "the span files outlive the mesh"


@pytest.mark.timeout(UP_SECONDS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_command_takes_its_mesh_along(home: Home, number: signal.Signals) -> None:
    with mesh_up(home) as up:
        up.send_signal(number)
        up.wait(timeout=90)
    assert run(home, "down").returncode == 0
    assert find_strays(home.root) == []
    assert not home.endpoints.exists()


def test_status_and_down_on_an_empty_home(home: Home) -> None:
    status = run(home, "status")
    assert (status.returncode, status.stdout) == (1, "no mesh is up\n")
    down = run(home, "down")
    assert down.returncode == 0
    assert "no mesh was up" in down.stdout


def test_doctor(home: Home) -> None:
    result = run(home, "doctor", "--json")
    findings = {finding["part"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert list(findings) == [
        *("python", "uv", "nats-server", "libpython", "triton", "torch", "gpu", "libvips", "ports", "home")
    ]
    assert findings["python"]["state"] == "ok"
    for finding in findings.values():
        assert (finding["state"] == "ok") == (not finding["advice"]), finding
    missing = [part for part, finding in findings.items() if finding["state"] == "missing"]
    assert result.returncode == (1 if missing else 0)


def test_logs(home: Home) -> None:
    (home.logs / "storage.log").write_text("one\ntwo\nthree\n")
    assert run(home, "logs", "storage", "-n", "2").stdout == "two\nthree\n"
    assert "== storage\n" in run(home, "logs").stdout
    unknown = run(home, "logs", "nothing")
    assert unknown.returncode == 1
    assert "there are: storage" in unknown.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("NATS_SERVER", "/bin/true", "NATS_SERVER=/bin/true is not nats-server 2.12 or newer"),
        ("IMAGEMESH_INFERENCE_ENGINE", "magic", "'magic'; it may be triton or inprocess"),
    ],
)
def test_what_keeps_a_mesh_from_starting_is_one_line(home: Home, name: str, value: str, words: str) -> None:
    command = [*COMMAND, "up"]
    changed = {**environment(home), name: value}
    result = subprocess.run(command, env=changed, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
