"""up, down, status, logs: the whole mesh on this machine."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from imagemesh.cli.failures import FAILED, Failure
from imagemesh.cli.launch import Event, Launch, order
from imagemesh.cli.output import facts, json_option, note, print_document, show, table
from imagemesh.cli.session import Session

FOLLOW_SECONDS = 0.3


@click.command()
@click.option("--detach", "-d", is_flag=True, help="Return once it is up; `imagemesh down` stops it.")
@json_option
@click.pass_obj
def up(session: Session, detach: bool, as_json: bool) -> None:
    """Start the whole mesh on this machine and keep it running until Ctrl-C."""
    with _terminate_as_interrupt():
        launch = Launch(session.home, "ignore" if detach else "stop")
        try:
            for event in launch.until_up():
                _tell(event, as_json)
            if detach:
                return
            for event in launch.events():
                _tell(event, as_json)
        except KeyboardInterrupt:
            _stop_telling(launch, as_json)
        except Failure:
            launch.wait()
            raise


@click.command()
@json_option
@click.pass_obj
def down(session: Session, as_json: bool) -> None:
    """Stop the mesh on this machine."""
    for event in order(session.home, "down"):
        _tell(event, as_json)
        if event["kind"] == "failed":
            raise Failure(event["text"])


@click.command()
@json_option
@click.pass_obj
@click.pass_context
def status(context: click.Context, session: Session, as_json: bool) -> None:
    """Show what runs on this machine. Exit status 1 when no mesh is up."""
    (event,) = order(session.home, "status") or [{"kind": "failed", "text": "the launcher gave no answer"}]
    if as_json:
        print_document({"state": event["kind"], **event.get("details", {})})
    else:
        _show_status(event)
    if event["kind"] != "up":
        context.exit(FAILED)


@click.command()
@click.argument("process", required=False)
@click.option("-n", "--lines", default=40, show_default=True, help="How many of the last lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written.")
@click.pass_obj
def logs(session: Session, process: str | None, lines: int, follow: bool) -> None:
    """Show the logs of PROCESS, or the last lines of every process."""
    files = sorted(session.logs.glob("*.log"))
    names = [file.stem for file in files]
    if process and process not in names:
        raise Failure(f"no log of {process!r} in {session.logs}; there are: {', '.join(names) or 'none'}")
    chosen = [file for file in files if process in (None, file.stem)]
    for file in chosen:
        _print_tail(file, lines, headed=process is None)
    if follow:
        _follow(chosen)


def _show_status(event: Event) -> None:
    details = event.get("details", {})
    show(f"[bold]{event['text']}[/]")
    rows = [
        (p["name"], p["state"], str(p["pid"] or ""), str(p["restarts"] or "")) for p in details.get("processes", [])
    ]
    if rows:
        show(table("process", "state", "pid", "restarts", rows=rows))
    if endpoints := details.get("endpoints"):
        show(facts(*((name, str(value)) for name, value in endpoints.items())))


def _tell(event: Event, as_json: bool) -> None:
    if as_json:
        print_document(event)
    elif event["kind"] == "up":
        _tell_up(event["details"])
    elif event["kind"] != "starting":
        name = event["process"] or "mesh"
        click.echo(f"{name:<14} {event['text'] or event['kind']}")


def _tell_up(details: Event) -> None:
    endpoints = details["endpoints"]
    shown = ("router", "storage_http", "engine", "telemetry_dir", "logs_dir", "development_key_file")
    show(facts(*((name.replace("_", " "), str(endpoints[name])) for name in shown)))
    if details["new_development_key"]:
        key = Path(endpoints["development_key_file"]).read_text(encoding="utf-8").strip()
        show(facts(("development key", f"{key}  (shown this once, kept in the file above)")))
    show('[bold]up[/]: try `imagemesh generate "a red circle"`; Ctrl-C stops')


def _stop_telling(launch: Launch, as_json: bool) -> None:
    """Goes on reading until everything has stopped; a further Ctrl-C kills at once."""
    note("stopping…")
    launch.ask_to_stop()
    while True:
        try:
            for event in launch.events():
                _tell(event, as_json)
            launch.wait()
            return
        except KeyboardInterrupt:
            launch.ask_to_stop()


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM is Ctrl-C to a command in the foreground."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_tail(file: Path, lines: int, headed: bool) -> None:
    if headed:
        click.echo(f"== {file.stem}")
    with file.open(encoding="utf-8", errors="replace") as content:
        for line in content.readlines()[-lines:]:
            click.echo(line.rstrip("\n"))


def _follow(files: list[Path]) -> None:
    positions = {file: file.stat().st_size for file in files}
    while True:
        for file, position in positions.items():
            size = file.stat().st_size
            start = position if size >= position else 0
            if size > start:
                with file.open("rb") as content:
                    content.seek(start)
                    click.echo(content.read(size - start).decode(errors="replace"), nl=False)
            positions[file] = size
        time.sleep(FOLLOW_SECONDS)
