"""The waterfall, drawn from span files as the mesh and killed processes leave them."""

from __future__ import annotations

import json
from pathlib import Path

from imagemesh.cli.spans import Row, arrange, bounds, find_trace, read_trace

from tests.client.conftest import Command

TRACE = "ab" * 16
OTHER = "cd" * 16
MS = 1_000_000


def line(event: str, span_id: str, parent: str, name: str, service: str, times: tuple[int, int], **more: object) -> str:
    record = {
        "event": event,
        "trace_id": TRACE,
        "span_id": span_id,
        "parent_id": parent,
        "name": name,
        "service": service,
        "kind": "internal",
        "start_ns": times[0] * MS,
    }
    if event == "end":
        record |= {"end_ns": times[1] * MS, "status": "ok", "attributes": {}, "links": []}
    return json.dumps({**record, **more}) + "\n"


def write(folder: Path) -> None:
    """A command, a router, a worker that was killed, and the inference call that it had made."""
    folder.mkdir(parents=True, exist_ok=True)
    job = {"attributes": {"imagemesh.job_id": "job_7"}}
    (folder / "command-1.jsonl").write_text(
        line("start", "c1", "", "imagemesh generate", "command", (0, 0))
        + line("end", "c1", "", "imagemesh generate", "command", (0, 100), **job)
        + line("end", "x1", "", "another trace", "command", (0, 100), trace_id=OTHER)
    )
    failed = {"status": "error", "attributes": {"error.type": "PROVIDER_TIMEOUT"}}
    (folder / "router-api-2.jsonl").write_text(
        line("start", "r1", "c1", "CreateJob", "router-api", (5, 0))
        + line("end", "r2", "r1", "commit", "router-api", (6, 9), **failed)
        + line("end", "r1", "c1", "CreateJob", "router-api", (5, 10))
    )
    (folder / "router-worker-3.jsonl").write_text(
        line("start", "w1", "r1", "run", "router-worker", (20, 0)) + '{"event":"start","trace_id":"' + TRACE
    )
    (folder / "inference-4.jsonl.1").write_text(line("end", "i1", "lost", "Generate", "inference", (30, 80)))


def test_spans_of_one_trace_come_from_every_file(tmp_path: Path) -> None:
    write(tmp_path)
    spans = read_trace(tmp_path, TRACE)
    assert [span.span_id for span in spans] == ["c1", "r1", "r2", "w1", "i1"]
    assert [span.end_ns for span in spans] == [100 * MS, 10 * MS, 9 * MS, None, 80 * MS]
    assert bounds(spans) == (0, 100 * MS)


def test_children_stand_below_their_parents_and_orphans_at_the_left(tmp_path: Path) -> None:
    write(tmp_path)
    rows = arrange(read_trace(tmp_path, TRACE))
    assert [(row.span.span_id, row.depth, row.orphan) for row in rows] == [
        ("c1", 0, False),
        ("r1", 1, False),
        ("r2", 2, False),
        ("w1", 2, False),
        ("i1", 0, True),
    ]


def test_spans_in_a_circle_do_not_hang(tmp_path: Path) -> None:
    tmp_path.joinpath("a-1.jsonl").write_text(
        line("end", "a", "b", "a", "s", (0, 1)) + line("end", "b", "a", "b", "s", (0, 1))
    )
    rows: list[Row] = arrange(read_trace(tmp_path, TRACE))
    assert rows == []


def test_a_jobs_trace_is_found_without_a_mesh(tmp_path: Path) -> None:
    write(tmp_path)
    assert find_trace(tmp_path, "job_7") == TRACE
    assert find_trace(tmp_path, "job_8") == ""


def test_the_waterfall(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "home" / "telemetry")
    result = command("trace", "job_7", IMAGEMESH_TARGET="")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"trace {TRACE}: 5 spans of 4 services, 100.0 ms"
    drawn = {row.split()[0].strip("⤷ ") or row.split()[1]: row for row in lines[2:7]}
    assert "█" * 60 in drawn["imagemesh"]
    assert drawn["CreateJob"].startswith("  CreateJob")
    assert "PROVIDER_TIMEOUT" in drawn["commit"]
    assert "····" in drawn["run"]
    assert " … " in drawn["run"]
    assert next(row for row in lines if row.startswith("⤷ Generate"))
    assert any("1 spans have a parent that is in no file" in row for row in lines)
    assert any("1 spans never ended" in row for row in lines)


def test_a_trace_id_will_do(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "home" / "telemetry")
    assert "another trace" in command("trace", OTHER, IMAGEMESH_TARGET="").stdout


def test_json(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "home" / "telemetry")
    document = json.loads(command("trace", "job_7", "--json", IMAGEMESH_TARGET="").stdout)
    assert document["traceId"] == TRACE
    assert [span["service"] for span in document["spans"]][:2] == ["command", "router-api"]
    assert document["spans"][3]["endNs"] is None


def test_no_spans(command: Command, tmp_path: Path) -> None:
    (tmp_path / "home" / "telemetry").mkdir(parents=True)
    for job in ("job_7", TRACE):
        result = command("trace", job, IMAGEMESH_TARGET="")
        assert result.exit_code == 1
        assert "no span" in result.stderr
