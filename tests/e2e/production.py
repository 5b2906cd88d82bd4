"""What a mesh is told so that it stands on PostgreSQL and S3 instead of the embedded parts."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from tests.conftest import PostgresServer, create_database
from tests.e2e.truth import PostgresTruth
from tests.storage.s3_server import ACCESS, SECRET, S3Server

SERVICES = ("router", "storage", "moderation")


@dataclass(frozen=True)
class Production:
    """environment: for `local_mesh`. truth: reads the databases. bucket: where the originals are; empty: on disk."""

    environment: Mapping[str, str]
    truth: PostgresTruth
    bucket: str


async def production(postgres: PostgresServer, s3: S3Server | None = None, workers: int = 1) -> Production:
    """A fresh database for each service, and a fresh bucket."""
    urls = {service: await create_database(postgres) for service in SERVICES}
    names = ["router-api", "router-worker", *(f"router-worker-{number}" for number in range(2, workers + 1))]
    owners = {"storage": "storage", "moderation": "moderation", **dict.fromkeys(names, "router")}
    overrides = {name: {"IMAGEMESH_DATABASE_URL": urls[service]} for name, service in owners.items()}
    bucket = ""
    if s3 is not None:
        bucket = f"b-{uuid.uuid4().hex}"
        overrides["storage"] |= {
            "IMAGEMESH_OBJECTS": f"s3://{bucket}",
            "IMAGEMESH_S3_ENDPOINT": f"http://127.0.0.1:{s3.port}",
            "IMAGEMESH_S3_ACCESS_KEY": ACCESS,
            "IMAGEMESH_S3_SECRET_KEY": SECRET,
        }
    environment = {
        "IMAGEMESH_TEST_OVERRIDES": json.dumps(overrides),
        "IMAGEMESH_TEST_WORKERS": str(workers),
        "IMAGEMESH_INFERENCE_ENGINE": "inprocess",
    }
    return Production(environment, PostgresTruth(urls), bucket)
