"""What the latent pipelines SD, SDXL, SD3 and FLUX have in common: the stages of a request and its inpainting.

A family adds how its text is read, how its denoiser is called, and how its latents are laid out. Each stage follows
`__call__` of the pipelines of diffusers 0.42, so that a request that runs alone gets the picture they draw.
"""

from __future__ import annotations

import io
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, ClassVar, Self

import torch
from PIL import Image

from services.inference.engine.adapters import Adapted, Adapters
from services.inference.engine.autoencoder import Autoencoder
from services.inference.engine.canvas import canvas_of
from services.inference.engine.latent_looks import LatentLooks, guess
from services.inference.engine.latent_sampling import (
    Kept,
    LatentSampling,
    compared,
    first_deviation,
    flows,
    noised,
    restored,
    sample_of,
    takes_generator,
)
from services.inference.engine.loading import load_pipeline
from services.inference.engine.manifest import Model
from services.inference.engine.prompt_cache import Conditions, PromptCache
from services.inference.engine.request import DrawRequest
from services.inference.engine.speed import Beside, Graphs, Tensors, finish, quicken

PNG_LEVEL = 4  # of 9: half the time of the default for 3 % more bytes


class LatentFamily(ABC):
    """A loaded model whose denoiser works on the latents of a VAE.

    `pipeline_class` of diffusers and the `options` it is loaded with; `part` is the name of that part of it which
    makes the steps, `patch` how many latents each way it takes as one.
    """

    pipeline_class: ClassVar[Any]
    options: ClassVar[Mapping[str, Any]] = {}
    part: ClassVar[str] = "transformer"
    patch: ClassVar[int] = 1

    def __init__(self, model: Model, pipeline: Any, device: str) -> None:
        manifest = model.manifest
        spread = bool(manifest.device_map) and device != "cpu"
        self.device = str(getattr(pipeline, self.part).device) if spread else device
        self._pipe = pipeline
        self._model = model
        self._dtype: torch.dtype = getattr(pipeline, self.part).dtype
        self._vae = Autoencoder(
            pipeline.vae, str(pipeline.vae.device) if spread else device, self.patch, manifest.vae_tiling
        )
        grain = self._vae.scale * max(self.patch, getattr(pipeline, self.part).config.get("patch_size") or 1)
        if manifest.size.factor % grain:
            raise ValueError(f"it draws multiples of {grain} pixels, which `factor: {manifest.size.factor}` is none of")
        # Weights that come and go serve one stage at a time.
        self._turn: AbstractContextManager[Any] = nullcontext() if manifest.offload == "none" else threading.RLock()
        self._beside_reading, self._beside_decoding = (Beside("cpu" if spread else device) for _ in range(2))
        quicken(pipeline, self.part, manifest, device)
        recorded = manifest.cuda_graphs and device != "cpu" and manifest.offload == "none"
        self._graphs = Graphs(partial(self._forward, getattr(pipeline, self.part))) if recorded else None
        self._looks = LatentLooks(self._vae)
        self._prompts = PromptCache()
        self.adapters = Adapters(pipeline, model)

    @classmethod
    def load(cls, model: Model, device: str) -> Self:
        """Reads the weights and draws a step. Raises what the libraries raise when something is missing or broken."""
        family = cls(model, load_pipeline(cls.pipeline_class, model, device, cls.options), device)
        family.warm_up()
        return family

    @abstractmethod
    def _schedule(self, request: DrawRequest) -> Any:
        """A scheduler of the request's own, set to its steps."""

    @abstractmethod
    def _skipped(self, request: DrawRequest) -> int:
        """Steps left out because the drawing begins from an image."""

    @abstractmethod
    def _read(self, request: DrawRequest, pipeline: Any) -> Conditions:
        """The prompt as one row, after a row of the negative prompt where the request is guided.

        `pipeline` is the model's own with the request's adapters.
        """

    @abstractmethod
    def _forward(self, denoiser: Any, inputs: Tensors) -> torch.Tensor:
        """One forward pass over what `_inputs` gave."""

    def _inputs(self, batch: Sequence[LatentSampling], conditions: Conditions) -> dict[str, torch.Tensor]:
        """Everything a pass takes, with the rows of each sampling at its own `timestep`; `sample` are the latents."""
        timesteps = [s.timestep.to(torch.float32).expand(s.rows) for s in batch]
        samples = torch.cat([sample_of(sampling) for sampling in batch])
        return {**conditions, "sample": samples, "timestep": torch.cat(timesteps).to(self.device)}

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

    def warm_up(self) -> None:
        """Draws a step, so that parts that do not fit together and weights that are no numbers fail at load.

        On an accelerator it is the default picture, alone and for two: then compiling and tuning is done. On the CPU,
        where neither happens, it is the smallest one.
        """
        manifest = self._model.manifest
        default, smallest = manifest.defaults, manifest.size.snap(manifest.size.min)
        slow = self.device == "cpu"
        for count in [1] if slow else sorted({1, min(2, manifest.max_count)}):
            request = DrawRequest(
                request_id="warm-up",
                model_id=manifest.id,
                prompt="",
                negative_prompt="",
                width=smallest if slow else default.width,
                height=smallest if slow else default.height,
                count=count,
                seed=0,
                steps=default.steps,
                guidance=default.guidance,
                scheduler=default.scheduler,
            )
            sampling = self.begin(request)
            self.advance(sampling, self.predict([sampling])[0])
            self.picture(sampling, 0)

    @torch.inference_mode()
    def begin(self, request: DrawRequest) -> LatentSampling:
        """Encodes texts and images, draws the first noise from one generator per picture, sets up the scheduler."""
        with self._turn, self._beside_reading():
            return self._begun(request)

    def _begun(self, request: DrawRequest) -> LatentSampling:
        adapted = self.adapters.take(request.loras)
        scheduler = self._schedule(request)
        conditions = self._conditions(request, adapted)
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
            denoiser=getattr(adapted.pipeline, self.part),
            classes=2 if self._guided(request) else 1,
            kept=kept,
            step_options={"generator": generators} if takes_generator(scheduler) else {},
        )

    @torch.inference_mode()
    def predict(self, batch: Sequence[LatentSampling]) -> list[torch.Tensor]:
        """One forward pass for all; guidance is applied afterwards, with each request's own scale."""
        names = batch[0].conditions
        conditions = {name: torch.cat([s.conditions[name] for s in batch]) for name in names}
        with self._turn:
            output = self._pass(batch[0].denoiser, self._inputs(batch, conditions))
        parts = torch.split(output, [s.rows for s in batch])
        predictions = [compared(part, sampling) for part, sampling in zip(parts, batch, strict=True)]
        finish(self.device)
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
        sampling.latents = latents if sampling.kept is None else restored(sampling, latents, sampling.kept)
        finish(self.device)

    @torch.inference_mode()
    def look(self, sampling: LatentSampling) -> list[Any]:
        """The colours of what the scheduler expects the end to be, a pixel for each position of the latents."""
        return self._looks(self._unpack(sampling.expected, sampling.request))

    @torch.inference_mode()
    def picture(self, sampling: LatentSampling, index: int) -> bytes:
        """Decodes one picture; ArithmeticError when the model gave no numbers."""
        with self._turn, self._beside_decoding():
            image = self._vae.decode(self._unpack(sampling.latents[index : index + 1], sampling.request))
            if not bool(torch.isfinite(image).all()):
                raise ArithmeticError("the model drew no finite numbers")
            pixels = (image[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).float()
            array = (pixels * 255).round().to(torch.uint8).cpu().numpy()
        return _png(array)

    def _pass(self, denoiser: Any, inputs: Tensors) -> torch.Tensor:
        if self._graphs is not None and denoiser is getattr(self._pipe, self.part):
            return self._graphs(inputs)
        return self._forward(denoiser, inputs)

    def _conditions(self, request: DrawRequest, adapted: Adapted) -> Conditions:
        negative = request.negative_prompt if self._guided(request) else None
        key = (request.prompt, negative, adapted.mark)
        read = self._prompts.get(key, lambda: self._read(request, adapted.pipeline))
        told = {name: row.repeat_interleave(request.count, dim=0) for name, row in read.items()}
        rows = request.count * (2 if self._guided(request) else 1)
        return {**told, **{name: row.expand(rows, *row.shape[1:]) for name, row in self._told(request).items()}}

    def _first(
        self, request: DrawRequest, scheduler: Any, timesteps: torch.Tensor, generators: list[torch.Generator]
    ) -> tuple[torch.Tensor, Kept | None]:
        """The latents that the first step begins from, and what inpainting keeps."""
        canvas = canvas_of(request)
        if canvas is None:
            noise = self._noise(request, generators)
            return self._pack(noise * first_deviation(scheduler)), None
        size = (request.width, request.height)
        original = self._vae.encode(canvas.image, size, generators).to(self.device, self._dtype)
        noise = self._noise(request, generators)
        if canvas.mask is None:
            return self._pack(noised(scheduler, original, noise, timesteps[:1].repeat(request.count))), None
        self._noise(request, generators)  # diffusers draws once more here, which noisy schedulers notice
        mask = self._vae.mask(canvas.mask, size, like=original)
        if request.strength == 1.0 and not flows(scheduler):
            latents = noise * first_deviation(scheduler)
        else:
            latents = noised(scheduler, original, noise, timesteps[:1].repeat(request.count))
        kept = Kept(self._pack(original), self._pack(noise), self._pack(mask.expand_as(original)))
        return self._pack(latents), kept

    def _noise(self, request: DrawRequest, generators: list[torch.Generator]) -> torch.Tensor:
        scale = self._vae.scale
        channels = self._pipe.vae.config.latent_channels
        shape = (request.count, channels, request.height // scale, request.width // scale)
        return self._vae.noise(shape, generators, torch.empty(0, device=self.device, dtype=self._dtype))


def _png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()
