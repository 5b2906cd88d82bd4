"""What the router's processes can be told from outside; every field is a variable with the prefix IMAGEMESH_."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from mesh.config import Settings

PACKAGE = Path(__file__).parent
MIGRATIONS = PACKAGE / "migrations"


class RouterSettings(Settings):
    """What the API and the worker share."""

    database_url: str = Field(min_length=1, description="SQLAlchemy URL: sqlite:///path or postgresql+asyncpg://…")
    database_pool: int = Field(10, ge=1, le=200, description="PostgreSQL connections of this process.")
    storage_target: str = Field("127.0.0.1:7401", description="Storage's gRPC address.")
    moderation_target: str = Field("127.0.0.1:7402", description="Moderation's gRPC address.")
    inference_target: str = Field("127.0.0.1:7403", description="The inference service's gRPC address.")
    public_callback_url: str = Field(
        "",
        pattern=r"^(https://[^\s?#]+)?$",  # vendors refuse orders with another, and the address is a secret
        description="Where vendors reach the hooks port, with https; unset: asynchronous vendors are polled only.",
    )
    catalog: Path = Field(PACKAGE / "catalog.yaml", description="The catalog of providers, models and prices.")


class ApiSettings(RouterSettings):
    """The API process."""

    bootstrap_key_file: Path | None = Field(
        None, description="Where the first API key is written (mode 0600) when there is none; unset makes none."
    )
    bootstrap_tenant: str = Field("default", pattern="^[a-z0-9][a-z0-9-]{0,62}$", description="Tenant of that key.")
    hooks_port: int = Field(0, ge=0, le=65535, description="HTTP port for call backs of vendors; 0 takes any free one.")
    queue_limit: int = Field(10_000, ge=1, description="Most unfinished jobs of a tenant.")
    watch_limit: int = Field(10_000, ge=1, description="Most streams of job updates in this process.")
    watch_poll_seconds: float = Field(2.0, gt=0, description="How often watched jobs are looked at without a signal.")


class WorkerSettings(RouterSettings):
    """The worker process."""

    worker_slots: int = Field(128, ge=1, le=1024, description="Jobs at once in this process.")
    lease_seconds: float = Field(15.0, ge=1.0, description="How long a dead worker's jobs wait for another.")
    poll_seconds: float = Field(1.0, gt=0, description="How often to look for work without a signal.")
    test_pause_file: Path | None = Field(
        None, description="For crash tests: a file that says at which step to stop for ever (`before:store`)."
    )
