"""The classifiers that an operator plugs in: one YAML file says which, and names the variables that hold their keys.

    classifiers:
      - {name: openai, key_env: OPENAI_API_KEY}
      - {name: guard, kind: chat-guard, base_url: "http://guard:8000/v1", model: meta-llama/Llama-Guard-3-8B}

Every mistake of the file is told by file and key, together, when the service starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from services.moderation.verdicts import Category

NO_KEY = SecretStr("")
NAME = r"^[a-z0-9][a-z0-9-]{0,63}$"


class PlugInFileError(Exception):
    """A file of plug-ins that cannot be used; the text names the file and every mistake."""


class Options(BaseModel):
    """A part of the file: unknown keys are mistakes, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Meaning(Options):
    """What a model's label counts for. weight: what its probability is multiplied by, above 0 up to 1."""

    category: Category
    weight: float = Field(1.0, gt=0, le=1)


class PlugInOptions(Options):
    """One classifier as the file has it; which keys a kind needs is told in its module."""

    name: str = Field(pattern=NAME)
    """The layer's name in verdicts and in a policy's `required_layers`."""
    kind: str = ""
    """Which plug-in it is; default: as the name."""
    key_env: str = ""
    """The environment variable that holds its key."""
    extra_env: Mapping[str, str] = {}
    """Further secrets by name: the variable that holds each."""
    base_url: str = ""
    region: str = ""
    model: str = ""
    path: Path | None = None
    """Folder of a local model."""
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    """What a local model's file must hash to; empty is not checked."""
    timeout: float = Field(5.0, gt=0, le=60)
    """Seconds that a judgement may take."""
    use: Literal["always", "required"] = "always"
    """`required`: only for tenants whose policy names it in `required_layers`; nobody else's content goes there."""
    content: tuple[Literal["texts", "pictures"], ...] = ("texts", "pictures")
    """What it is asked about, of what it can judge."""
    labels: Mapping[str, Meaning] = {}
    """What its labels count for; only for kinds whose labels are not known."""
    score: float = Field(0.9, gt=0, le=1)
    """The score of a finding where the model gives none."""

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s?#@]+", value):
            raise ValueError("must be http(s)://host[:port][/path], without a user, a query or a fragment")
        return value.rstrip("/")


@dataclass(frozen=True)
class PlugIn:
    """One classifier to be made, with its keys."""

    options: PlugInOptions
    key: SecretStr = NO_KEY
    secrets: Mapping[str, SecretStr] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.options.name

    @property
    def kind(self) -> str:
        """Which plug-in it is."""
        return self.options.kind or self.options.name


class _File(Options):
    classifiers: tuple[PlugInOptions, ...] = Field((), max_length=16)


def read_plug_ins(path: Path, environment: Mapping[str, str]) -> tuple[PlugIn, ...]:
    """The plug-ins of the file. Raises PlugInFileError, also for a variable that is named and not set."""
    try:
        loaded: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PlugInFileError(f"{path}: {error}") from error
    try:
        options = _File.model_validate(loaded).classifiers
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise PlugInFileError("\n".join(f"{path}: {line}" for line in lines)) from error
    mistakes = [*_repeated(options), *_unset(options, environment)]
    if mistakes:
        raise PlugInFileError("\n".join(f"{path}: {line}" for line in mistakes))
    return tuple(_with_keys(each, environment) for each in options)


def _repeated(options: Sequence[PlugInOptions]) -> list[str]:
    names = [each.name for each in options]
    return [f"{name}: comes twice" for name in sorted({name for name in names if names.count(name) > 1})]


def _unset(options: Sequence[PlugInOptions], environment: Mapping[str, str]) -> list[str]:
    wanted = [(each.name, variable) for each in options for variable in (each.key_env, *each.extra_env.values())]
    return [f"{name}: {variable} is not set" for name, variable in wanted if variable and not environment.get(variable)]


def _with_keys(options: PlugInOptions, environment: Mapping[str, str]) -> PlugIn:
    secrets = {name: SecretStr(environment[variable]) for name, variable in options.extra_env.items()}
    return PlugIn(options, SecretStr(environment[options.key_env]) if options.key_env else NO_KEY, secrets)
