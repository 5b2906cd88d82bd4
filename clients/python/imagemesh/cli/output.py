"""What people and programs read: tables for the ones, protobuf JSON for the others."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from google.protobuf import duration_pb2, json_format, timestamp_pb2
from google.protobuf.message import Message
from google.type import money_pb2
from rich.console import Console, RenderableType
from rich.table import Table

from imagemesh.generation import from_money

PIPE_WIDTH = 200
F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """`--json` as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")(command)


def print_message(message: Message) -> None:
    """The message's protobuf JSON: on one line, or indented for a person."""
    indent = 2 if sys.stdout.isatty() else None
    click.echo(json_format.MessageToJson(message, indent=indent, ensure_ascii=False))


def print_document(document: object) -> None:
    """JSON of something that is no message."""
    click.echo(json.dumps(document, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def note(text: str) -> None:
    """One line beside the result, on standard error."""
    click.echo(text, err=True)


def show(what: RenderableType) -> None:
    """Renders on standard output; wide where nobody's screen is the limit."""
    console().print(what)


def console() -> Console:
    """Standard output as it is now."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, emoji=False)


def table(*columns: str, rows: Sequence[Sequence[str]], empty: str = "nothing") -> RenderableType:
    """Plain columns; numbers are the caller's to align."""
    if not rows:
        return empty
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


def facts(*pairs: tuple[str, str]) -> RenderableType:
    """Names and values, one a line; empty values are left out."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, value in pairs:
        if value:
            grid.add_row(f"[bold]{name}[/]", value)
    return grid


def money(amount: money_pb2.Money) -> str:
    """`0.0125 USD`, or nothing when there is no amount."""
    if not amount.currency_code and not amount.units and not amount.nanos:
        return ""
    value = f"{from_money(amount):f}"
    if "." in value:
        value = value.rstrip("0").rstrip(".")
    return f"{value} {amount.currency_code}".strip()


def seconds(span: duration_pb2.Duration) -> str:
    """`1.2 s`."""
    return f"{span.ToMilliseconds() / 1000:.1f} s"


def moment(time: timestamp_pb2.Timestamp) -> str:
    """Local time, to the second; empty when unset."""
    if not time.seconds:
        return ""
    return datetime.fromtimestamp(time.seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def day(time: timestamp_pb2.Timestamp) -> str:
    """The day in UTC; empty when unset."""
    return datetime.fromtimestamp(time.seconds, UTC).date().isoformat() if time.seconds else ""


def plain(name: str, prefix: str) -> str:
    """An enum's name for people: JOB_STATE_QUEUED with prefix JOB_STATE_ is `queued`; UNSPECIFIED is empty."""
    short = name.removeprefix(prefix)
    return "" if short == "UNSPECIFIED" else short.lower().replace("_", " ")
