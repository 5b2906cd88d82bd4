"""Which mesh a command speaks to, and with which key."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path

from imagemesh.calls import Connection, Metadata
from imagemesh.cli.failures import Failure
from imagemesh.client import Client

CONNECT_SECONDS = 1.0


@dataclass(frozen=True)
class Endpoints:
    """What the launcher of a local mesh wrote down (`endpoints.json`)."""

    router: str
    moderation: str
    key_file: Path
    telemetry: Path
    storage: str = ""


@dataclass(frozen=True)
class Session:
    """home: folder of the local mesh. target, api_key and the services' own targets: as given, empty otherwise."""

    home: Path
    target: str = ""
    api_key: str = ""
    moderation_target: str = ""
    storage_target: str = ""

    @property
    def telemetry(self) -> Path:
        """Where the local mesh writes its spans."""
        return self.home / "telemetry"

    @property
    def logs(self) -> Path:
        """Where the local mesh writes its logs."""
        return self.home / "logs"

    def endpoints(self) -> Endpoints | None:
        """Of the local mesh, when it is up and answers."""
        try:
            document = json.loads((self.home / "endpoints.json").read_text(encoding="utf-8"))
            endpoints = Endpoints(
                router=document["router"],
                moderation=document["moderation"],
                key_file=Path(document["development_key_file"]),
                telemetry=Path(document["telemetry_dir"]),
                storage=document.get("storage", ""),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return endpoints if _answers(endpoints.router) else None

    def mesh_there(self) -> bool:
        """Whether a target was given or the local mesh is up."""
        return bool(self.target) or self.endpoints() is not None

    def client(self, metadata: Metadata = ()) -> Client:
        """Speaks to the given target, else to the local mesh. Raises Failure when there is none."""
        connection = Connection(metadata=metadata)
        if self.target:
            return Client(self.target, self.api_key, connection)
        endpoints = self._local()
        return Client(endpoints.router, self.api_key or _read_key(endpoints.key_file), connection)

    def moderation(self) -> tuple[str, str]:
        """Target and key for the moderation service."""
        if self.moderation_target or self.target:
            return self.moderation_target or self.target, self.api_key
        endpoints = self._local()
        return endpoints.moderation, self.api_key or _read_key(endpoints.key_file)

    def storage(self) -> tuple[str, str]:
        """Target and key for the storage service."""
        if self.storage_target or self.target:
            return self.storage_target or self.target, self.api_key
        endpoints = self._local()
        return endpoints.storage, self.api_key or _read_key(endpoints.key_file)

    def _local(self) -> Endpoints:
        endpoints = self.endpoints()
        if endpoints is None:
            raise Failure("no mesh is up here; start one with `imagemesh up`, or name one with --target")
        return endpoints


def _read_key(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Failure(f"the development key cannot be read ({error.strerror}): give --api-key") from error


def _answers(target: str) -> bool:
    host, _, port = target.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS):
            return True
    except (OSError, ValueError):
        return False
