"""Settings from the environment: typed, frozen, all mistakes reported at once by variable name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn, TypeVar

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mesh.telemetry import TelemetryConfig

PREFIX = "IMAGEMESH_"


class Settings(BaseSettings):
    """What every service reads; each service adds its own fields in its `config.py`.

    A field `grpc_port` is the variable `IMAGEMESH_GRPC_PORT`.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True)

    host: str = Field("127.0.0.1", description="Address to listen on; loopback unless the pod says otherwise.")
    grpc_port: int = Field(0, ge=0, le=65535, description="gRPC port; 0 takes any free one.")
    nats_url: str = Field("nats://127.0.0.1:4222", description="NATS servers, comma separated.")
    database_url: str = Field("", description="SQLAlchemy URL: sqlite:///path or postgresql+asyncpg://…")
    mesh_token: SecretStr = Field(SecretStr(""), description="Shared secret of the services, at least 16 characters.")
    router_target: str = Field("127.0.0.1:7400", description="The router's gRPC address, for key verification.")
    telemetry_dir: Path | None = Field(None, description="Folder for span files when no collector is set.")
    otlp_endpoint: str = Field(
        "",
        validation_alias=AliasChoices("IMAGEMESH_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="OTLP/gRPC collector; spans go there instead of files. The standard variable works too.",
    )
    trace_ratio: float = Field(1.0, ge=0, le=1, description="Share of new traces that are sampled.")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least severe log written.")
    drain_seconds: float = Field(20.0, gt=0, description="How long running calls may take after SIGTERM, seconds.")

    def telemetry(self, service: str) -> TelemetryConfig:
        """What `mesh.telemetry.start` needs, for the process that `service` names."""
        return TelemetryConfig(service, self.telemetry_dir, self.otlp_endpoint, self.trace_ratio, self.log_level)


S = TypeVar("S", bound=Settings)


def load(kind: type[S]) -> S:
    """Reads `kind` from the environment; on mistakes prints every one by variable name and exits with 2."""
    try:
        return kind()
    except ValidationError as error:
        _exit(error)


def _exit(error: ValidationError) -> NoReturn:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = PREFIX + "__".join(str(part) for part in problem["loc"]).upper()
        lines.append(f"{name}: {problem['msg']}")
    sys.stderr.write("\n".join(lines) + "\n")
    raise SystemExit(2)
