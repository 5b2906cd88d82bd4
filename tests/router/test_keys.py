"""API keys: secrets, states, rotation, revocation, the bootstrap key."""

from __future__ import annotations

import secrets
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from imagemesh.router.v1 import api_key_pb2, usage_service_pb2
from imagemesh.router.v1 import api_key_service_pb2 as pb
from imagemesh.router.v1 import job_service_pb2 as jobs_pb
from imagemesh.type.v1 import access_pb2

from mesh.errors import Unauthenticated
from services.router import keys
from services.router.bootstrap import ensure_key
from services.router.tables import api_keys
from tests.router.api import INTERNAL, RunningApi, bearer, create, refused, running_api

CALLER = access_pb2.ROLE_CALLER


@pytest.fixture
async def api(database_url: str, tmp_path: Path) -> AsyncIterator[RunningApi]:
    async with running_api(database_url, tmp_path) as running:
        yield running


def test_a_secret_shows_nothing_of_itself() -> None:
    secret = keys.new_secret("key_" + "0" * 26)
    assert keys.parse_secret(secret.text) == secret
    assert secret.text not in repr(secret)
    for bad in ("", "imk__", "abc", secret.text[:40], "xmk" + secret.text[3:], secret.text + "é"):
        with pytest.raises(Unauthenticated):
            keys.parse_secret(bad)


async def made(api: RunningApi, **fields: object) -> pb.CreateApiKeyResponse:
    operator = await api.key("OPERATOR")
    request = pb.CreateApiKeyRequest(**{"tenant": "acme", "roles": [CALLER], **fields})  # type: ignore[arg-type]
    response: pb.CreateApiKeyResponse = await api.keys.CreateApiKey(request, metadata=operator)
    return response


async def works(api: RunningApi, secret: str) -> bool:
    try:
        await api.api.keys.verify(secret)
    except Unauthenticated:
        return False
    return True


async def test_a_key_is_made_shown_once_and_verified(api: RunningApi) -> None:
    response = await made(api, display_name="shop", models=["demo"], spend_cap=Money(currency_code="USD", units=3))
    assert response.api_key.state == api_key_pb2.API_KEY_STATE_ACTIVE
    request = pb.VerifyApiKeyRequest(secret=response.secret)
    found = (await api.keys.VerifyApiKey(request, metadata=INTERNAL)).api_key
    assert found == response.api_key
    assert (found.display_name, found.models, found.spend_cap.units) == ("shop", ["demo"], 3)
    (row,) = [row for row in await api.stores.rows(api_keys) if row.key_id == found.key_id]
    assert response.secret.encode() not in b"".join(str(value).encode() for value in row)
    limits = await api.usage.GetLimits(usage_service_pb2.GetLimitsRequest(), metadata=bearer(response.secret))
    assert limits.spend_cap.units == 3


async def test_rotation_overlaps_for_as_long_as_asked(api: RunningApi) -> None:
    operator = await api.key("OPERATOR")
    first = await made(api)
    rotate = pb.RotateApiKeyRequest(key_id=first.api_key.key_id, overlap=Duration(seconds=60))
    second = await api.keys.RotateApiKey(rotate, metadata=operator)
    assert await works(api, first.secret)
    assert await works(api, second.secret)
    rotate.overlap.Clear()
    third = await api.keys.RotateApiKey(rotate, metadata=operator)
    assert [await works(api, key.secret) for key in (first, second, third)] == [False, False, True]


async def test_a_revoked_key_is_refused_at_once_and_stays_so(api: RunningApi) -> None:
    operator = await api.key("OPERATOR")
    key = await made(api)
    assert (await api.jobs.CreateJob(create(), metadata=bearer(key.secret))).job.job_id
    revoke = pb.RevokeApiKeyRequest(key_id=key.api_key.key_id)
    for _ in range(2):
        assert (await api.keys.RevokeApiKey(revoke, metadata=operator)).api_key.HasField("revoke_time")
    call = api.jobs.ListJobs(jobs_pb.ListJobsRequest(), metadata=bearer(key.secret))
    assert (await refused(call))[:2] == ("UNAUTHENTICATED", "KEY_INVALID")
    assert (await api.stores.events()).count("ApiKeyRevoked") == 1
    rotate = pb.RotateApiKeyRequest(key_id=key.api_key.key_id)
    assert (await refused(api.keys.RotateApiKey(rotate, metadata=operator)))[1] == "WRONG_STATE"


async def test_lists_page_and_filter_by_tenant(api: RunningApi) -> None:
    operator = await api.key("OPERATOR", tenant="zeta")
    ids = [(await made(api, tenant=f"t{number % 2}")).api_key.key_id for number in range(4)]
    seen, token = [], ""
    while True:
        request = pb.ListApiKeysRequest(tenant="t1", page_size=1, page_token=token)
        page = await api.keys.ListApiKeys(request, metadata=operator)
        seen += [key.key_id for key in page.api_keys]
        token = page.next_page_token
        if not token:
            break
    assert seen == [ids[3], ids[1]]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"tenant": "Not A Tenant"}, "tenant"),
        ({"roles": []}, "roles"),
        ({"roles": [access_pb2.ROLE_INTERNAL]}, "roles"),
        ({"spend_cap": Money(currency_code="USD", units=-1)}, "spend_cap"),
        ({"spend_cap": Money(currency_code="EUR", units=1)}, "spend_cap.currency_code"),
        ({"expire_time": Timestamp(seconds=1000)}, "expire_time"),
    ],
)
async def test_bad_terms_are_named(api: RunningApi, fields: dict[str, object], wrong: str) -> None:
    operator = await api.key("OPERATOR")
    request = pb.CreateApiKeyRequest(**{"tenant": "acme", "roles": [CALLER], **fields})  # type: ignore[arg-type]
    assert await refused(api.keys.CreateApiKey(request, metadata=operator)) == (
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        [wrong],
    )


async def test_only_operators_manage_and_only_the_mesh_verifies(api: RunningApi) -> None:
    caller, operator = await api.key(), await api.key("OPERATOR")
    listing = api.keys.ListApiKeys(pb.ListApiKeysRequest(), metadata=caller)
    assert (await refused(listing))[1] == "ROLE_NOT_ALLOWED"
    verify = pb.VerifyApiKeyRequest(secret="imk_x")
    assert (await refused(api.keys.VerifyApiKey(verify, metadata=operator)))[1] == "ROLE_NOT_ALLOWED"
    assert (await refused(api.keys.VerifyApiKey(verify, metadata=INTERNAL)))[1] == "KEY_INVALID"
    unknown = pb.RevokeApiKeyRequest(key_id="key_" + "0" * 26)
    assert (await refused(api.keys.RevokeApiKey(unknown, metadata=operator)))[:2] == ("NOT_FOUND", "KEY_NOT_FOUND")


async def test_the_bootstrap_key_is_made_once_and_only_its_owner_reads_it(api: RunningApi, tmp_path: Path) -> None:
    path = tmp_path / "home" / "key"
    assert await ensure_key(api.api.keys, path, "default")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = path.read_text().strip()
    assert await works(api, secret)
    assert not await ensure_key(api.api.keys, path, "default")
    path.unlink()
    assert not await ensure_key(api.api.keys, path, "default")
    assert not path.exists()


async def test_a_first_key_that_an_operator_brings_is_taken_while_there_is_none(
    api: RunningApi, tmp_path: Path
) -> None:
    """As docs/kubernetes.md has it made and the manifest mounts it."""
    first, second = (f"imk_{secrets.token_hex(13)}_{secrets.token_urlsafe(32)}" for _ in range(2))
    path = tmp_path / "first-api-key"
    path.write_text(first)
    assert await ensure_key(api.api.keys, path, "default")
    path.write_text(second)
    assert not await ensure_key(api.api.keys, path, "default")
    assert (await works(api, first), await works(api, second)) == (True, False)


async def test_a_crash_between_file_and_store_loses_no_key(api: RunningApi, tmp_path: Path) -> None:
    path = tmp_path / "key"
    secret = keys.new_secret("key_" + "0" * 26)
    path.write_text(secret.text)
    assert await ensure_key(api.api.keys, path, "default")
    assert await works(api, secret.text)
