"""The server's guards, through a real socket: errors, keys, roles, malformed messages, health, traces."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from imagemesh.storage.v1 import storage_service_pb2, storage_service_pb2_grpc

from mesh import telemetry
from mesh.auth import Authenticator, CachedKeys, Principal, principal
from mesh.channel import ChannelConfig, as_tenant, open_channel
from mesh.errors import MeshError, NotFound, ResourceExhausted, Unauthenticated
from mesh.server import Server, ServerConfig
from mesh.status import from_rpc_error, peer_errors

TOKEN = "a-mesh-token-of-the-tests"
GET = "/imagemesh.storage.v1.StorageService/GetAsset"


class Keys:
    def __init__(self) -> None:
        self.asked = 0

    async def verify(self, key: str) -> Principal:
        self.asked += 1
        if key != "good":
            raise Unauthenticated("this key is not known")
        return Principal("acme", "key_1", frozenset({"CALLER"}))


class Storage(storage_service_pb2_grpc.StorageServiceServicer):
    def __init__(self) -> None:
        self.callers: list[Principal] = []
        self.traces: list[str] = []
        self.running = asyncio.Event()

    async def GetAsset(self, request, context):  # type: ignore[no-untyped-def]
        self.callers.append(principal())
        self.traces.append(telemetry.current().trace_id)
        if request.asset_id == "bug":
            raise ZeroDivisionError
        if request.asset_id == "slow":
            self.running.set()
            await asyncio.sleep(0.2)
            return storage_service_pb2.GetAssetResponse()
        raise NotFound("no such asset", reason="ASSET_NOT_FOUND")

    async def ReadAsset(self, request, context):  # type: ignore[no-untyped-def]
        yield storage_service_pb2.ReadAssetResponse()
        raise NotFound("gone half way", reason="ASSET_NOT_FOUND")


class Mesh:
    def __init__(self) -> None:
        self.servicer = Storage()
        self.keys = Keys()
        self.healthy = True
        checks = {"readiness": self.check, "broken": self.fail}
        self.server = Server(ServerConfig(), Authenticator(TOKEN, CachedKeys(self.keys)), checks)
        service = storage_service_pb2.DESCRIPTOR.services_by_name["StorageService"]
        self.server.add(service, self.servicer, storage_service_pb2_grpc.add_StorageServiceServicer_to_server)

    async def check(self) -> None:
        if not self.healthy:
            raise RuntimeError

    async def fail(self) -> None:
        raise RuntimeError

    def channel(self, token: str) -> grpc.aio.Channel:
        return open_channel(ChannelConfig(f"127.0.0.1:{self.server.port}", mesh_token=token))

    async def error(self, token: str, asset_id: str = "a") -> MeshError:
        async with self.channel(token) as channel:
            stub = storage_service_pb2_grpc.StorageServiceStub(channel)
            with pytest.raises(MeshError) as caught, peer_errors("storage"):
                await stub.GetAsset(storage_service_pb2.GetAssetRequest(asset_id=asset_id), metadata=as_tenant("t9"))
            return caught.value


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    mesh = Mesh()
    await mesh.server.start()
    yield mesh
    await mesh.server.stop()


@pytest.mark.parametrize(
    ("token", "asset_id", "reason"),
    [
        ("good", "a", "ASSET_NOT_FOUND"),
        (TOKEN, "a", "ASSET_NOT_FOUND"),
        ("bad", "a", "KEY_INVALID"),
        ("", "a", "KEY_MISSING"),
        ("good", "bug", "INTERNAL"),
    ],
)
async def test_failures_are_typed(mesh: Mesh, token: str, asset_id: str, reason: str) -> None:
    assert (await mesh.error(token, asset_id)).reason == reason


async def test_internal_callers_name_their_tenant_and_others_cannot(mesh: Mesh) -> None:
    await mesh.error(TOKEN)
    await mesh.error("good")
    assert [(c.tenant, c.internal) for c in mesh.servicer.callers] == [("t9", True), ("acme", False)]


async def test_roles_of_the_contract_are_enforced(mesh: Mesh) -> None:
    async with mesh.channel("good") as channel:
        stub = storage_service_pb2_grpc.StorageServiceStub(channel)
        with pytest.raises(MeshError) as caught, peer_errors("storage"):
            await stub.BlockAsset(storage_service_pb2.BlockAssetRequest())
    assert caught.value.reason == "ROLE_NOT_ALLOWED"


async def test_garbage_is_the_callers_fault(mesh: Mesh) -> None:
    async with mesh.channel("good") as channel:
        call = channel.unary_unary(GET, request_serializer=None, response_deserializer=None)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"\xff\xff\xff\xff")
    error = from_rpc_error(caught.value, "storage")
    assert (error.reason, caught.value.code()) == ("MALFORMED_REQUEST", grpc.StatusCode.INVALID_ARGUMENT)


async def test_streams_fail_typed_after_messages(mesh: Mesh) -> None:
    async with mesh.channel("good") as channel:
        stub = storage_service_pb2_grpc.StorageServiceStub(channel)
        got = []
        with pytest.raises(MeshError) as caught, peer_errors("storage"):
            async for message in stub.ReadAsset(storage_service_pb2.ReadAssetRequest()):
                got.append(message)
    assert (len(got), caught.value.reason) == (1, "ASSET_NOT_FOUND")


async def test_verified_keys_are_remembered_until_revoked(mesh: Mesh) -> None:
    await mesh.error("good")
    await mesh.error("good")
    assert mesh.keys.asked == 1


async def test_one_key_is_asked_for_once_and_holds_up_no_other() -> None:
    class Slow(Keys):
        async def verify(self, key: str) -> Principal:
            if key == "stuck":
                await asyncio.Event().wait()
            await asyncio.sleep(0)
            return await super().verify(key)

    keys = Slow()
    cached = CachedKeys(keys)
    stuck = asyncio.create_task(cached.verify("stuck"))
    await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*(cached.verify("good") for _ in range(5))), 5)
    assert keys.asked == 1
    stuck.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stuck


async def test_revocation_forgets_a_key_at_once() -> None:
    keys = Keys()
    cached = CachedKeys(keys)
    await cached.verify("good")
    await cached.forget("key-revoked", b"key_1")
    await cached.verify("good")
    assert keys.asked == 2


async def test_only_so_many_calls_wait_for_a_key_to_be_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.auth.VERIFY_WAITING", 2)
    answer = asyncio.Event()

    class Slow(Keys):
        async def verify(self, key: str) -> Principal:
            await answer.wait()
            return await super().verify(key)

    keys = Slow()
    cached = CachedKeys(keys)
    waiting = [asyncio.create_task(cached.verify("good")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted):
        await cached.verify("other")
    answer.set()
    await asyncio.gather(*waiting)
    assert keys.asked == 1


async def test_remembered_keys_expire_after_30_seconds() -> None:
    now = [0.0]
    keys = Keys()
    cached = CachedKeys(keys, clock=lambda: now[0])
    for now[0] in (0.0, 29.9, 30.1):
        await cached.verify("good")
    assert keys.asked == 2


async def health_of(mesh: Mesh, service: str) -> int:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.server.port}") as channel:
        response = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
        return int(response.status)


async def test_a_broken_dependency_does_not_end_readiness(mesh: Mesh) -> None:
    names = ("", "liveness", "readiness", "broken")
    assert [await health_of(mesh, name) for name in names] == [1, 1, 1, 2]


async def test_running_calls_finish_while_draining(mesh: Mesh) -> None:
    async with mesh.channel("good") as channel:
        stub = storage_service_pb2_grpc.StorageServiceStub(channel)
        running = asyncio.ensure_future(stub.GetAsset(storage_service_pb2.GetAssetRequest(asset_id="slow")))
        await mesh.servicer.running.wait()
        await mesh.server.stop()
        assert await running == storage_service_pb2.GetAssetResponse()


async def test_the_trace_goes_on_through_channel_and_server(mesh: Mesh) -> None:
    telemetry.start(telemetry.TelemetryConfig("tests"))
    with telemetry.span("root"):
        outside = telemetry.current().trace_id
        await mesh.error("good")
    assert mesh.servicer.traces == [outside]
