"""What the latent pipelines SDXL, SD3 and FLUX have in common: the stages of a request and its inpainting.

A family adds how its text is read, how its denoiser is called, and how its latents are laid out. Each stage follows
`__call__` of the pipelines of diffusers 0.42, so that a request that runs alone gets the picture they draw.
"""

from __future__ import annotations

import inspect
import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from services.inference.engine.autoencoder import Autoencoder
from services.inference.engine.images import decoded
from services.inference.engine.latent_looks import LatentLooks, guess
from services.inference.engine.prompt_cache import Conditions, PromptCache
from services.inference.engine.request import DrawRequest

PNG_LEVEL = 4  # of 9: half the time of the default for 3 % more bytes


@dataclass(frozen=True)
class Kept:
    """What inpainting puts back outside its mask after each step; all tensors in the layout of the latents."""

    original: torch.Tensor
    noise: torch.Tensor
    mask: torch.Tensor


@dataclass
class LatentSampling:
    """The state of one request. `conditions` hold a row for each row of the forward pass."""

    request: DrawRequest
    scheduler: Any
    timesteps: torch.Tensor
    latents: torch.Tensor
    expected: torch.Tensor  # in the layout of the latents: a guess at the end, for previews
    conditions: Conditions
    classes: int
    kept: Kept | None = None
    step: int = 0
    step_options: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[object, ...]:
        """The picture's size (packed latents do not tell it) and the shapes of a row of everything that goes in."""
        told = tuple((name, tensor.shape[1:]) for name, tensor in sorted(self.conditions.items()))
        return (self.request.width, self.request.height, self.latents.shape[1:], told)

    @property
    def rows(self) -> int:
        """Pictures, times the two classes (without and with the prompt) where guidance compares them."""
        return self.request.count * self.classes

    @property
    def steps(self) -> int:
        """Steps to be made; fewer than asked for when an image is where the drawing begins."""
        return len(self.timesteps)

    @property
    def timestep(self) -> torch.Tensor:
        """The timestep that comes next."""
        return self.timesteps[self.step]


class LatentFamily(ABC):
    """A loaded model whose denoiser works on the latents of a VAE."""

    def __init__(self, pipeline: Any, denoiser: Any, device: str, factor: int = 0) -> None:
        """`factor`: pixels per unit of the latents' layout; 0 takes the VAE's scale."""
        self.device = device
        self._pipe = pipeline
        self._denoiser = denoiser
        self._dtype: torch.dtype = denoiser.dtype
        scale = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
        self._vae = Autoencoder(pipeline.vae, factor or scale)
        self._looks = LatentLooks(self._vae)
        self._prompts = PromptCache()

    @abstractmethod
    def _schedule(self, request: DrawRequest) -> Any:
        """A scheduler of the request's own, set to its steps."""

    @abstractmethod
    def _skipped(self, request: DrawRequest) -> int:
        """Steps left out because the drawing begins from an image."""

    @abstractmethod
    def _read(self, request: DrawRequest) -> Conditions:
        """The prompt as one row, after a row of the negative prompt where the request is guided."""

    @abstractmethod
    def _denoise(self, batch: Sequence[LatentSampling], conditions: Conditions) -> torch.Tensor:
        """One forward pass over the rows of every sampling, each at its own timestep."""

    def _told(self, request: DrawRequest) -> Conditions:
        """Conditions of one row besides the prompt."""
        return {}

    def _guided(self, request: DrawRequest) -> bool:
        """Whether a step compares the prediction with the prompt to the one without it."""
        return request.guided

    def _expected(self, sampling: LatentSampling, prediction: torch.Tensor, output: Any) -> torch.Tensor:
        """A guess at the finished latents, from what the scheduler's step returned."""
        return guess(sampling.scheduler, output)

    def _pack(self, latents: torch.Tensor) -> torch.Tensor:
        """From (pictures, channels, height, width) to the denoiser's layout."""
        return latents

    def _unpack(self, latents: torch.Tensor, request: DrawRequest) -> torch.Tensor:
        """The inverse of `_pack`."""
        return latents

    @torch.inference_mode()
    def begin(self, request: DrawRequest) -> LatentSampling:
        """Encodes texts and images, draws the first noise from one generator per picture, sets up the scheduler."""
        scheduler = self._schedule(request)
        conditions = self._conditions(request)
        skipped = self._skipped(request) * scheduler.order
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(skipped)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in request.seeds]
        timesteps = scheduler.timesteps[skipped:]
        latents, kept = self._first(request, scheduler, timesteps, generators)
        return LatentSampling(
            request=request,
            scheduler=scheduler,
            timesteps=timesteps,
            latents=latents,
            expected=latents,
            conditions=conditions,
            classes=2 if self._guided(request) else 1,
            kept=kept,
            step_options={"generator": generators} if _takes_generator(scheduler) else {},
        )

    @torch.inference_mode()
    def predict(self, batch: Sequence[LatentSampling]) -> list[torch.Tensor]:
        """One forward pass for all; guidance is applied afterwards, with each request's own scale."""
        names = batch[0].conditions
        conditions = {name: torch.cat([s.conditions[name] for s in batch]) for name in names}
        parts = torch.split(self._denoise(batch, conditions), [s.rows for s in batch])
        predictions = [_compared(part, sampling) for part, sampling in zip(parts, batch, strict=True)]
        if self.device != "cpu":
            torch.cuda.current_stream().synchronize()
        return predictions

    @torch.inference_mode()
    def advance(self, sampling: LatentSampling, prediction: torch.Tensor) -> None:
        """One step of the request's own scheduler; outside an inpainting's mask the original comes back."""
        output = sampling.scheduler.step(
            prediction, sampling.timestep, sampling.latents, **sampling.step_options, return_dict=False
        )
        sampling.expected = self._expected(sampling, prediction, output)
        latents = output[0]
        sampling.step += 1
        sampling.latents = latents if sampling.kept is None else _restored(sampling, latents, sampling.kept)

    @torch.inference_mode()
    def look(self, sampling: LatentSampling) -> list[Any]:
        """The colours of what the scheduler expects the end to be, a pixel for each position of the latents."""
        return self._looks(self._unpack(sampling.expected, sampling.request))

    def row_bytes(self, request: DrawRequest) -> int:
        """See the port: not counted."""
        return 0

    @torch.inference_mode()
    def picture(self, sampling: LatentSampling, index: int) -> bytes:
        """Decodes one picture; ArithmeticError when the model gave no numbers."""
        latents = self._unpack(sampling.latents[index : index + 1], sampling.request)
        image = self._vae.decode(latents)
        if not bool(torch.isfinite(image).all()):
            raise ArithmeticError("the model drew no finite numbers")
        pixels = (image[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).float()
        return _png((pixels * 255).round().to(torch.uint8).cpu().numpy())

    def _conditions(self, request: DrawRequest) -> Conditions:
        negative = request.negative_prompt if self._guided(request) else None
        read = self._prompts.get((request.prompt, negative), lambda: self._read(request))
        told = {name: row.repeat_interleave(request.count, dim=0) for name, row in read.items()}
        rows = request.count * (2 if self._guided(request) else 1)
        return {**told, **{name: row.expand(rows, *row.shape[1:]) for name, row in self._told(request).items()}}

    def _first(
        self, request: DrawRequest, scheduler: Any, timesteps: torch.Tensor, generators: list[torch.Generator]
    ) -> tuple[torch.Tensor, Kept | None]:
        """The latents that the first step begins from, and what inpainting keeps."""
        if request.image is None:
            noise = self._noise(request, generators)
            return self._pack(noise * _first_deviation(scheduler)), None
        size = (request.width, request.height)
        original = self._vae.encode(decoded(request.image), size, generators)
        noise = self._noise(request, generators)
        if request.mask is None:
            return self._pack(noised(scheduler, original, noise, timesteps[:1].repeat(request.count))), None
        self._noise(request, generators)  # diffusers draws once more here, which noisy schedulers notice
        mask = self._vae.mask(decoded(request.mask, "L"), size, like=original)
        if request.strength == 1.0 and not _flows(scheduler):
            latents = noise * _first_deviation(scheduler)
        else:
            latents = noised(scheduler, original, noise, timesteps[:1].repeat(request.count))
        kept = Kept(self._pack(original), self._pack(noise), self._pack(mask.expand_as(original)))
        return self._pack(latents), kept

    def _noise(self, request: DrawRequest, generators: list[torch.Generator]) -> torch.Tensor:
        scale = self._vae.scale
        channels = self._pipe.vae.config.latent_channels
        shape = (request.count, channels, request.height // scale, request.width // scale)
        return self._vae.noise(shape, generators, torch.empty(0, device=self.device, dtype=self._dtype))


def _compared(prediction: torch.Tensor, sampling: LatentSampling) -> torch.Tensor:
    if sampling.classes == 1:
        return prediction
    without, with_prompt = prediction.chunk(2)
    return without + sampling.request.guidance * (with_prompt - without)


def _restored(sampling: LatentSampling, latents: torch.Tensor, kept: Kept) -> torch.Tensor:
    """The original, as noisy as the drawing is now, outside the mask."""
    original = kept.original
    if sampling.step < sampling.steps:
        original = noised(
            sampling.scheduler, original, kept.noise, sampling.timesteps[sampling.step : sampling.step + 1]
        )
    return (1 - kept.mask) * original + kept.mask * latents


def noised(scheduler: Any, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """`latents` as the scheduler would have them at `timestep`, a tensor of one or of a row for each picture."""
    if _flows(scheduler):
        mixed: torch.Tensor = scheduler.scale_noise(latents, timestep, noise)
    else:
        mixed = scheduler.add_noise(latents, noise, timestep)
    return mixed


def _flows(scheduler: Any) -> bool:
    return hasattr(scheduler, "scale_noise")


def _first_deviation(scheduler: Any) -> float:
    """How wide the noise is that a scheduler begins with."""
    return float(getattr(scheduler, "init_noise_sigma", 1.0))


def _takes_generator(scheduler: Any) -> bool:
    return "generator" in inspect.signature(scheduler.step).parameters


def _png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()
