"""An order in the provider's terms: everything resolved, every picture in hand."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from services.router import specs
from services.router.candidates import Candidate
from services.router.choices import Choice
from services.router.degrading import without
from services.router.peers.storage import Storage
from services.router.providers.base import ControlImage, InputImage, Lora, Margins, Provider, ProviderCall
from services.router.runs import Run


@dataclass(frozen=True)
class Order:
    """One order of a run: pictures `indices`, from this candidate at this provider."""

    run: Run
    attempt_id: str
    candidate: Candidate
    provider: Provider
    indices: tuple[int, ...]

    @property
    def choice(self) -> Choice:
        """As the fallback sees it."""
        return choice_of(self.candidate, self.provider)

    @property
    def account(self) -> str:
        """The account it was planned for; empty where the provider needs none."""
        return "" if self.candidate.account is None else self.candidate.account.name

    @property
    def worst_micros(self) -> int:
        """What it may cost at most."""
        return self.candidate.call_worst_case(len(self.indices)).micros


@dataclass(frozen=True)
class Sources:
    """The pictures a call starts from."""

    images: tuple[InputImage, ...] = ()
    mask: InputImage | None = None
    controls: tuple[ControlImage, ...] = ()


async def sources_of(run: Run, storage: Storage) -> Sources:
    """Reads the pictures of the run's spec; they are assets by now."""

    async def read(image: specs.ImageInput) -> InputImage:
        data, media_type = await storage.read(run.holder, image.asset_id)
        return InputImage(data, media_type)

    spec = run.spec
    return Sources(
        images=tuple([await read(image) for image in spec.images]),
        mask=None if spec.mask is None else await read(spec.mask),
        controls=tuple([ControlImage(each.kind, await read(each.image), each.scale) for each in spec.controls]),
    )


def choice_of(candidate: Candidate, provider: Provider) -> Choice:
    """The candidate as the fallback sees it."""
    most = min(candidate.count_per_call, provider.capabilities.max_count)
    return Choice(candidate.provider, candidate.model, most, provider.capabilities.replay_safe)


def provider_call(order: Order, sources: Sources, ends: float) -> ProviderCall:
    """The order in the provider's terms; `ends`, on the run's clock, bounds it as the model's own timeout does."""
    run, candidate = order.run, order.candidate
    spec = without(run.spec, candidate.dropped)
    return ProviderCall(
        attempt_id=order.attempt_id,
        tenant=run.job.tenant,
        model=candidate.provider_model,
        model_id=candidate.model,
        model_version=candidate.version,
        prompt=spec.prompt,
        timeout=max(0.0, min(candidate.timeout_s, ends - run.clock())),
        operation=spec.operation.value,
        negative_prompt=spec.negative_prompt,
        width=0 if candidate.keeps_size else candidate.size.width,
        height=0 if candidate.keeps_size else candidate.size.height,
        count=len(order.indices),
        seed=_seed(order),
        steps=candidate.steps or None,
        guidance=spec.guidance,
        scheduler=spec.scheduler,
        output_format=spec.output.format,
        compression=spec.output.quality,
        quality=candidate.quality,
        transparent_background=spec.output.transparent_background,
        user=opaque_user(run.job.tenant, run.job.user),
        batch=run.options.lane is specs.Lane.BATCH,
        options=spec.provider_options.get(candidate.provider, {}),
        images=sources.images,
        mask=sources.mask,
        strength=spec.strength,
        controls=sources.controls,
        loras=tuple(Lora(lora.lora_id, lora.scale) for lora in spec.loras),
        margins=_margins(spec.margins),
        upscale_factor=spec.upscale_factor,
    )


def opaque_user(tenant: str, user: str) -> str:
    """What stands for an end user at vendors: callers may name people by their address. 64 characters; empty for none.

    With the tenant in it, two tenants' users of one name stay two; without a secret, for it hides nobody from us.
    """
    return hashlib.sha256(f"{tenant}\n{user}".encode()).hexdigest() if user else ""


def _margins(asked: specs.Margins | None) -> Margins:
    return Margins() if asked is None else Margins(asked.left, asked.top, asked.right, asked.bottom)


def _seed(order: Order) -> int | None:
    takes = order.candidate.capabilities.seed and order.provider.capabilities.seed
    seed = order.run.spec.seed
    return specs.picture_seed(seed, order.indices[0]) if takes and seed is not None else None
