"""ApiKeyService: the RPC edge of the keys."""

from __future__ import annotations

from typing import Any

from imagemesh.router.v1 import api_key_service_pb2 as pb
from imagemesh.router.v1 import api_key_service_pb2_grpc

from mesh import auth, paging
from mesh.auth import CachedKeys
from mesh.events import Bus
from mesh.ids import new_id
from mesh.validation import check
from services.router import keys, wire, wire_keys
from services.router.key_store import KeyStore


class ApiKeyService(api_key_service_pb2_grpc.ApiKeyServiceServicer):
    """Makes, lists, rotates, revokes and verifies keys. A revocation is signalled so that every cache drops the key."""

    def __init__(self, store: KeyStore, verified: CachedKeys, bus: Bus) -> None:
        self._store = store
        self._verified = verified
        self._bus = bus

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, context: Any) -> pb.CreateApiKeyResponse:
        """See the contract."""
        secret = keys.new_secret(new_id("key"))
        key = await self._store.create(secret, wire_keys.read_terms(request))
        return pb.CreateApiKeyResponse(api_key=wire_keys.key_to_proto(key), secret=secret.text)

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, context: Any) -> pb.ListApiKeysResponse:
        """See the contract."""
        check(request, wire_keys.LIST_RULES)
        size = paging.page_size(request.page_size)
        scope = f"keys/{request.tenant}"
        after = str(paging.decode_token(request.page_token, scope)[0]) if request.page_token else ""
        found = await self._store.list(request.tenant, after, size + 1)
        more = paging.encode_token((found[size - 1].key_id,), scope) if len(found) > size else ""
        return pb.ListApiKeysResponse(
            api_keys=[wire_keys.key_to_proto(key) for key in found[:size]], next_page_token=more
        )

    async def RotateApiKey(self, request: pb.RotateApiKeyRequest, context: Any) -> pb.RotateApiKeyResponse:
        """See the contract."""
        check(request, wire_keys.ROTATE_RULES)
        secret = keys.new_secret(request.key_id)
        key = await self._store.rotate(secret, wire.duration_from_proto(request.overlap))
        await self._dropped(key.key_id)
        return pb.RotateApiKeyResponse(api_key=wire_keys.key_to_proto(key), secret=secret.text)

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: Any) -> pb.RevokeApiKeyResponse:
        """See the contract."""
        check(request, wire_keys.REVOKE_RULES)
        key = await self._store.revoke(request.key_id)
        await self._dropped(key.key_id)
        return pb.RevokeApiKeyResponse(api_key=wire_keys.key_to_proto(key))

    async def VerifyApiKey(self, request: pb.VerifyApiKeyRequest, context: Any) -> pb.VerifyApiKeyResponse:
        """See the contract."""
        key = await self._store.find(keys.parse_secret(request.secret))
        return pb.VerifyApiKeyResponse(api_key=wire_keys.key_to_proto(key))

    async def _dropped(self, key_id: str) -> None:
        """The process's own memory must not wait for NATS, which may be down."""
        await self._verified.forget("", key_id.encode())
        await self._bus.signal(auth.KEY_REVOKED, key_id.encode())
