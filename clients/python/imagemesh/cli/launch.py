"""Runs the local launcher (`python -m deploy.local`) as a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from imagemesh.cli.failures import Failure

STOP_SECONDS = 90.0
ORDER_SECONDS = 150.0
Event = dict[str, Any]
OwnerGone = Literal["stop", "linger", "ignore"]


def launcher_command(*arguments: str) -> list[str]:
    """The command line. Raises Failure where the launcher is not installed."""
    if _root() is None:
        raise Failure("the mesh itself is not installed here, only its client: name a mesh with --target")
    return [sys.executable, "-m", "deploy.local", *arguments]


def order(home: Path, name: str) -> list[Event]:
    """Runs a short order (`down`, `status`, `doctor`) and returns its events."""
    command = launcher_command(name, "--json", "--home", str(home))
    try:
        answer = subprocess.run(
            command, cwd=_root(), stdout=subprocess.PIPE, text=True, timeout=ORDER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Failure(f"`{name}` took longer than {ORDER_SECONDS:.0f} s") from error
    return [event for line in answer.stdout.splitlines() if (event := _parse(line))]


class Launch:
    """One launcher in a session of its own, so that Ctrl-C reaches the command alone, which then stops it in order.

    owner_gone: what the launcher does when this command dies: stop at once, linger until no job is unfinished, or
    nothing.
    """

    def __init__(self, home: Path, owner_gone: OwnerGone) -> None:
        command = launcher_command("up", "--json", "--home", str(home), "--owner-gone", owner_gone)
        alone = owner_gone == "ignore"
        self._process = subprocess.Popen(
            command,
            cwd=_root(),
            stdin=subprocess.DEVNULL if alone else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if alone else None,  # else whoever reads this command's output waits for ever
            text=True,
            start_new_session=True,
        )

    def events(self) -> Iterator[Event]:
        """What it reports, until it ends. Leaving the loop early and coming back is fine."""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if event := _parse(line):
                yield event

    def until_up(self) -> Iterator[Event]:
        """What it reports until the mesh is up. Raises Failure when it does not come up."""
        for event in self.events():
            if event["kind"] == "failed":
                raise Failure(event["text"])
            yield event
            if event["kind"] == "up":
                return
        raise Failure(f"the launcher ended with status {self._process.wait()}; `imagemesh logs launcher` says more")

    def drain(self) -> None:
        """Reads on in the background, so that the launcher never waits for a reader."""
        threading.Thread(target=lambda: list(self.events()), daemon=True).start()

    def ask_to_stop(self) -> None:
        """SIGTERM; a second one makes it kill at once."""
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Stops in order and waits; kills the launcher (and with it its children) after a minute and a half."""
        self.ask_to_stop()
        return self.wait(STOP_SECONDS)

    def wait(self, seconds: float | None = None) -> int:
        """Its exit status."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _parse(line: str) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "kind" in event else None


def _root() -> Path | None:
    """The folder that holds `deploy/`: the checkout, or where the wheel was installed."""
    checkout = Path(__file__).resolve().parents[4]
    if (checkout / "deploy" / "local" / "__main__.py").is_file():
        return checkout
    try:
        found = find_spec("deploy.local")
    except ModuleNotFoundError:
        return None
    return Path(found.origin).resolve().parents[2] if found and found.origin else None
