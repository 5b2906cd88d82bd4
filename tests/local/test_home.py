"""The home folder: closed to others, secrets kept, one launcher at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from deploy.local.events import Event, reporter
from deploy.local.home import Home, HomeLock, kept_secret, open_home, read_json, write_json, write_private
from deploy.local.logfile import LogFile
from deploy.local.orders import status_of, take_down
from deploy.local.space import keep_under

ROOT = Path(__file__).resolve().parents[2]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_folders_are_closed_to_others(home: Home) -> None:
    for folder in (home.root, home.data, home.telemetry, home.logs, home.run, home.tools):
        assert mode(folder) == 0o700


def test_files_are_written_whole_and_private(home: Home) -> None:
    write_private(home.mesh_token, "one")
    write_private(home.mesh_token, "two")
    assert home.mesh_token.read_text() == "two"
    assert mode(home.mesh_token) == 0o600
    write_json(home.endpoints, {"router": "here"})
    assert read_json(home.endpoints) == {"router": "here"}
    assert sorted(path.name for path in home.root.iterdir() if path.is_file()) == ["endpoints.json", "mesh.token"]


def test_unreadable_json_is_none(home: Home) -> None:
    assert read_json(home.endpoints) is None
    home.endpoints.write_text("{")
    assert read_json(home.endpoints) is None
    home.endpoints.write_text("[1]")
    assert read_json(home.endpoints) is None


def test_a_kept_secret_stays(home: Home) -> None:
    first = kept_secret(home.signing_key)
    assert len(bytes.fromhex(first)) == 32
    assert kept_secret(home.signing_key) == first
    assert mode(home.signing_key) == 0o600


def test_one_launcher_holds_a_home(home: Home) -> None:
    lock, other = HomeLock(home), HomeLock(home)
    assert lock.holder() is None
    assert lock.take()
    assert not other.take()
    assert other.holder() == os.getpid()
    lock.release()
    lock.release()
    assert other.take()
    other.release()


def test_the_lock_of_a_dead_launcher_is_free(home: Home) -> None:
    script = "import os, sys; from pathlib import Path; from deploy.local.home import *\n"
    script += "assert HomeLock(open_home(Path(sys.argv[1]))).take(); os._exit(0)"
    subprocess.run([sys.executable, "-c", script, str(home.root)], check=True, cwd=ROOT)
    assert HomeLock(home).holder() is None


def test_status_and_down_without_a_mesh(home: Home) -> None:
    events: list[Event] = []
    assert status_of(home).kind == "stopped"
    assert take_down(home, events.append) == 0
    assert [(event.kind, event.text) for event in events] == [("stopped", "no mesh was up")]


def test_a_log_is_cut_at_its_cap(home: Home) -> None:
    log = LogFile(home.logs, "a", cap=100)
    descriptor = log.open()
    os.write(descriptor, b"x" * 90 + b"\n")
    assert not log.trim()
    os.write(descriptor, b"the last line\n")
    assert log.trim()
    os.write(descriptor, b"after\n")
    os.close(descriptor)
    assert log.path.read_bytes() == b"after\n"
    assert (home.logs / "a.log.1").read_bytes().endswith(b"the last line\n")
    assert log.tail() == "after"
    os.close(log.open())
    assert log.tail() == "", "what an earlier run wrote explains nothing"
    assert mode(log.path) == mode(home.logs / "a.log.1") == 0o600


def test_the_oldest_files_go_first(home: Home) -> None:
    for age in range(4):
        path = home.telemetry / f"service-{age}.jsonl"
        path.write_bytes(b"x" * 100)
        os.utime(path, (1000 - age, 1000 - age))
    assert keep_under(home.telemetry, 1000) == 0
    assert keep_under(home.telemetry, 250) == 2
    assert sorted(path.name for path in home.telemetry.iterdir()) == ["service-0.jsonl", "service-1.jsonl"]


def test_a_reader_that_went_away_does_not_stop_the_launcher(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with (tmp_path / "log").open("w") as log, os.fdopen(write, "w") as gone:
        report = reporter([(gone, False), (log, True)])
        report(Event("notice", "", "still here"))
        report(Event("stopped"))
    assert (tmp_path / "log").read_text().count("\n") == 2


def test_home_under_a_new_path_is_made(tmp_path: Path) -> None:
    assert open_home(tmp_path / "a" / "b").logs.is_dir()
