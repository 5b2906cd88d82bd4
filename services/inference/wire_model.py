"""Own models and how busy they are, as messages."""

from __future__ import annotations

from google.type.money_pb2 import Money
from imagemesh.inference.v1 import inference_service_pb2, model_pb2
from imagemesh.type.v1 import image_pb2

from services.inference.catalog import OwnModel
from services.inference.engine.manifest import Manifest
from services.inference.engines.base import Busy, State, Status

STATES = {
    State.LOADING: model_pb2.MODEL_STATE_LOADING,
    State.READY: model_pb2.MODEL_STATE_READY,
    State.FAILED: model_pb2.MODEL_STATE_FAILED,
    State.UNLOADED: model_pb2.MODEL_STATE_UNLOADED,
}
POLICIES = {"snap": model_pb2.SIZE_POLICY_SNAP, "refuse": model_pb2.SIZE_POLICY_REFUSE}


def model_message(own: OwnModel, status: Status) -> model_pb2.Model:
    """A model as the contract shows it."""
    manifest = own.model.manifest
    return model_pb2.Model(
        model_id=manifest.id,
        model_version=own.version,
        display_name=manifest.display_name,
        family=manifest.family,
        state=STATES[status.state],
        error=status.error,
        capabilities=manifest.capabilities,
        size=_size_limits(manifest),
        max_count=manifest.max_count,
        default_steps=manifest.defaults.steps,
        max_steps=manifest.max_steps,
        default_guidance=manifest.defaults.guidance,
        default_scheduler=manifest.defaults.scheduler,
        schedulers=manifest.schedulers,
        license=manifest.license,
        gpu_second_price=_money(manifest.gpu_second_price_usd),
        controls=sorted(manifest.controls),
        loras=own.loras,
        upscale_factors=_factors(manifest),
    )


def _factors(manifest: Manifest) -> range:
    """The first one is drawn where none is asked for."""
    return range(2, manifest.max_upscale + 1) if "upscale" in manifest.capabilities else range(0)


def _size_limits(manifest: Manifest) -> model_pb2.SizeLimits:
    size = manifest.size
    default = image_pb2.ImageSize(width=manifest.defaults.width, height=manifest.defaults.height)
    return model_pb2.SizeLimits(
        min=size.min, max=size.max, factor=size.factor, policy=POLICIES[size.policy], default_size=default
    )


def _money(decimal: str) -> Money | None:
    if not decimal:
        return None
    units, _, fraction = decimal.partition(".")
    return Money(currency_code="USD", units=int(units), nanos=int(fraction.ljust(9, "0")))


def capacity_message(engine: str, busy: dict[str, Busy]) -> inference_service_pb2.GetCapacityResponse:
    """The engines of the given models, and each of their devices once."""
    models = [_model_capacity(name, each) for name, each in busy.items()]
    memories = {each.memory.device: each.memory for each in busy.values()}
    devices = [
        model_pb2.DeviceMemory(device=m.device, total_bytes=m.total, used_bytes=m.used) for m in memories.values()
    ]
    return inference_service_pb2.GetCapacityResponse(
        running=sum(model.running for model in models),
        waiting=sum(model.waiting for model in models),
        slots=sum(model.slots for model in models),
        models=models,
        devices=devices,
        engine=engine,
    )


def _model_capacity(name: str, busy: Busy) -> model_pb2.ModelCapacity:
    load = busy.load
    return model_pb2.ModelCapacity(
        model_id=name,
        running=load.running,
        waiting=load.waiting,
        slots=load.slots,
        waiting_limit=load.waiting_limit,
        steps_done=load.steps_done,
    )
