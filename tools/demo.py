"""`make demo`: one picture from a prompt on a mesh of its own, with its cost and its trace; then everything is stopped.

It fails when the trace lacks a part of the mesh, so that a demo that ends well has shown the whole way.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".cache" / "demo"
PICTURE = ROOT / "demo-output" / "stars.png"
PROMPT = "two yellow stars on a dark blue background"
PARTS = {"command", "router-api", "router-worker", "inference", "moderation", "storage"}
COMMAND = (sys.executable, "-m", "imagemesh.cli.main")


def main() -> None:
    """Exit status 0 when the picture is there and one trace shows every part."""
    shutil.rmtree(HOME, ignore_errors=True)
    PICTURE.parent.mkdir(exist_ok=True)
    print(f'$ imagemesh generate "{PROMPT}" -o {PICTURE.relative_to(ROOT)} --seed 10', flush=True)
    job = _generate()
    print(f"\n$ imagemesh trace {job}", flush=True)
    _run("trace", job)
    services = _services(job)
    missing = PARTS - services
    if missing or not PICTURE.exists():
        sys.exit(f"the demo did not show everything; no span of {', '.join(sorted(missing))}")
    print(f"\nThe picture: {PICTURE.relative_to(ROOT)}")


def _generate() -> str:
    """Runs the command as a person would, shows what it says, and returns the job's id."""
    arguments = (*COMMAND, "generate", PROMPT, "-o", str(PICTURE), "--seed", "10")
    process = subprocess.Popen(arguments, cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, text=True)
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        said += line
    found = re.search(r"job_[0-9a-z]{26}", said)
    if process.wait() != 0 or found is None:
        sys.exit(f"generate failed; logs are in {HOME / 'logs'}")
    return found.group()


def _services(job: str) -> set[str]:
    traced = subprocess.run(
        (*COMMAND, "trace", job, "--json"), cwd=ROOT, env=_environment(), check=True, capture_output=True, text=True
    )
    return {span["service"] for span in json.loads(traced.stdout)["spans"]}


def _run(*arguments: str) -> None:
    subprocess.run((*COMMAND, *arguments), cwd=ROOT, env=_environment(), check=True)


def _environment() -> dict[str, str]:
    return {**os.environ, "IMAGEMESH_HOME": str(HOME)}


if __name__ == "__main__":
    main()
