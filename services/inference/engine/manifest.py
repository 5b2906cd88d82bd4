"""`model.yaml`: what a model is, what it can do, and within which limits. Reading it needs no torch and no weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.inference.engine.schedulers import SCHEDULERS, fitting

FamilyName = Literal["stable-diffusion", "stable-diffusion-xl", "stable-diffusion-3", "flux"]
Capability = Literal["text_to_image", "image_to_image", "inpaint", "outpaint", "control", "upscale"]
LORA_ID = r"^[a-z0-9][a-z0-9._-]{0,62}$"
LoraId = Annotated[str, Field(pattern=LORA_ID)]
ControlKind = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]{0,30}$")]

FLOW_FAMILIES = frozenset({"stable-diffusion-3", "flux"})  # trained to flow straight from noise to picture
FILE_NAME = "model.yaml"
LORAS = "loras"  # the folder whose LoRAs need no entry
HASHED_SUFFIXES = (".safetensors", ".json", ".txt")


class ManifestError(Exception):
    """A `model.yaml` is missing or wrong; the text names the file and each mistake."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Weights(_Part):
    """Where the weights lie: a folder in diffusers layout, or a hub id with a pinned revision."""

    path: str = Field("", description="Folder, relative to the model.yaml; `.` is the folder it lies in.")
    hub: str = Field("", description="Hub id, e.g. `stabilityai/stable-diffusion-xl-base-1.0`.")
    revision: str = Field(
        "", description="Pinned commit of the hub id. For a folder it may be empty: then its content is hashed."
    )

    variant: str = Field("", pattern=r"^[a-z0-9_]*$", description="Of the files, e.g. `fp16`, where there are several.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.path) == bool(self.hub):
            raise ValueError("name exactly one of `path` and `hub`")
        if self.hub and not self.revision:
            raise ValueError("a hub id needs a pinned `revision`")
        return self


class SizeRule(_Part):
    """The widths and heights a model draws, in pixels."""

    min: int = Field(ge=8)
    max: int = Field(le=8192)
    factor: int = Field(8, ge=1, description="Width and height are multiples of this.")
    policy: Literal["snap", "refuse"] = Field("refuse", description="What happens to other sizes.")

    def draws(self, value: int) -> bool:
        """Whether a picture may be so wide or high, without snapping."""
        return self.min <= value <= self.max and value % self.factor == 0

    def snap(self, value: int) -> int:
        """The largest multiple of `factor` that is not above `value`, but at least the smallest size drawn."""
        return max(value - value % self.factor, -(-self.min // self.factor) * self.factor)


class Lora(Weights):
    """Adapter weights for this model, in the layout that `load_lora_weights` of diffusers reads."""

    file: str = Field("", description="The safetensors file inside; found by diffusers when empty.")
    display_name: str = Field("", description="What a person reads, e.g. the style's name.")


class Control(Weights):
    """A ControlNet for this model, in diffusers layout."""

    display_name: str = Field("", description="What a person reads, e.g. `Edges, white on black`.")


class Defaults(_Part):
    """What a request gets that does not say."""

    width: int
    height: int
    steps: int = Field(ge=1)
    guidance: float = Field(ge=0)
    scheduler: str


class Manifest(_Part):
    """One model."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    display_name: str
    family: FamilyName = Field(description="The family of pipelines, a name in `families.FAMILIES`.")
    weights: Weights
    dtype: Literal["float32", "float16", "bfloat16"] = Field(
        "float32", description="On an accelerator; the CPU always computes in float32."
    )
    leave_out: tuple[Literal["text_encoder_3", "tokenizer_3"], ...] = Field(
        (), description="Parts that are not loaded: Stable Diffusion 3 reads without its T5 encoder too, less well."
    )
    device_map: Literal["", "balanced"] = Field("", description="How the parts are spread over several accelerators.")
    offload: Literal["none", "model", "sequential"] = Field(
        "none", description="Which weights stay in host memory until they are needed, on an accelerator."
    )
    compile: bool = Field(False, description="Whether the denoiser is compiled at load, on an accelerator.")
    cuda_graphs: bool = Field(False, description="Whether passes are recorded once a shape and replayed, on CUDA.")
    fuse_qkv: bool = Field(
        False, description="Whether attention's projections are one matrix, on an accelerator; then no LoRA fits."
    )
    prompt_tokens: int = Field(
        0,
        ge=0,
        le=512,
        description="Tokens that a T5 encoder reads, where there is one; 0: the family's own.",
    )
    vae_tiling: int = Field(
        2048, ge=0, description="Pictures with more pixels than this side squared are decoded in tiles; 0: never."
    )
    capabilities: tuple[Capability, ...] = ("text_to_image",)
    loras: dict[LoraId, Lora] = Field(
        {}, description="Adapters a request may name, besides those in the folder `loras`, which need no entry."
    )
    controls: dict[ControlKind, Control] = Field({}, description="ControlNets, by what their image shows.")
    size: SizeRule
    defaults: Defaults
    schedulers: tuple[str, ...] = Field(
        (), description="Names in `schedulers.SCHEDULERS`; empty: every one that fits the family."
    )
    max_steps: int = Field(150, ge=1, le=150)
    max_count: int = Field(8, ge=1, le=8)
    max_batch: int = Field(8, ge=1, description="Pictures in one forward pass.")
    max_upscale: int = Field(4, ge=2, le=4, description="The largest upscale factor.")
    slots: int = Field(0, ge=0, description="Requests drawn at once; 0: as the engine is configured.")
    max_waiting: int = Field(0, ge=0, description="Requests that may wait; 0: as the engine is configured.")
    row_memory_mb: float = Field(
        0.0,
        ge=0,
        description="Device memory of one row of a pass at the default size, in MiB (a guided picture takes two rows); "
        "0: measured at load on an accelerator, not counted on the CPU.",
    )
    license: str = Field(description="SPDX identifier of the weights' licence where there is one.")
    gpu_second_price_usd: str = Field("", pattern=r"^(\d+(\.\d{1,9})?)?$", description="Decimal; empty when not known.")

    @model_validator(mode="before")
    @classmethod
    def _fitting_schedulers(cls, data: object) -> object:
        if isinstance(data, dict) and not data.get("schedulers"):
            return {**data, "schedulers": fitting(flow=data.get("family") in FLOW_FAMILIES)}
        return data

    @model_validator(mode="after")
    def _schedulers_known(self) -> Self:
        unknown = [name for name in self.schedulers if name not in SCHEDULERS]
        if unknown:
            raise ValueError(f"unknown schedulers {', '.join(unknown)}; known are {', '.join(SCHEDULERS)}")
        fit = fitting(flow=self.family in FLOW_FAMILIES)
        misfits = [name for name in self.schedulers if name not in fit]
        if misfits:
            raise ValueError(f"schedulers {', '.join(misfits)} do not fit the family; {', '.join(fit)} do")
        if self.defaults.scheduler not in self.schedulers:
            raise ValueError(f"the default scheduler {self.defaults.scheduler} is not among `schedulers`")
        return self

    @model_validator(mode="after")
    def _defaults_drawable(self) -> Self:
        default, size = self.defaults, self.size
        if not (size.draws(default.width) and size.draws(default.height)):
            raise ValueError(f"the default size {default.width} x {default.height} is none that `size` allows")
        if default.steps > self.max_steps:
            raise ValueError(f"the default of {default.steps} steps is above `max_steps`")
        return self

    @model_validator(mode="after")
    def _controls_named(self) -> Self:
        if ("control" in self.capabilities) != bool(self.controls):
            raise ValueError("the capability `control` and entries under `controls` need each other")
        if self.controls and self.family in FLOW_FAMILIES:
            raise ValueError(f"`controls` do not fit the family {self.family}")
        return self

    @model_validator(mode="after")
    def _one_placement(self) -> Self:
        if self.device_map and self.offload != "none":
            raise ValueError("`device_map` and `offload` exclude each other")
        return self

    @model_validator(mode="after")
    def _fused_without_loras(self) -> Self:
        if self.fuse_qkv and self.loras:
            raise ValueError("`loras` do not fit a model with `fuse_qkv`")
        return self

    @property
    def takes_no_loras(self) -> str:
        """Why no adapter can be laid over it, after its name in a sentence; empty where adapters can."""
        if self.fuse_qkv:
            return "takes no loras: its attention is fused"
        if self.offload != "none" or self.device_map:
            return "takes no loras while its weights are offloaded or spread"
        return ""


class Model(_Part):
    """A manifest together with the folder it was read from."""

    manifest: Manifest
    folder: Path

    @property
    def weights_folder(self) -> Path | None:
        """Where local weights lie; None for a hub id."""
        path = self.manifest.weights.path
        return (self.folder / path).resolve() if path else None

    @property
    def has_weights(self) -> bool:
        """Whether loading can be tried: a hub id, or a folder with a `model_index.json`."""
        folder = self.weights_folder
        return folder is None or (folder / "model_index.json").is_file()

    @property
    def missing(self) -> str:
        """What is not there where there are no weights."""
        return f"no model_index.json in {self.weights_folder}"

    def source(self, weights: Weights) -> str:
        """What `from_pretrained` reads: the folder of local weights, or the hub id."""
        return str((self.folder / weights.path).resolve()) if weights.path else weights.hub

    def version(self) -> str:
        """The pinned revision; for a folder without one, a hash of its content (reads every weight file).

        The folder `loras` does not count: what lies there comes and goes while the model draws.
        """
        weights = self.manifest.weights
        folder = self.weights_folder
        if weights.revision or folder is None:
            return weights.revision
        return content_hash(folder, (self.folder / LORAS).resolve())


def content_hash(folder: Path, without: Path) -> str:
    """The first 12 hex digits of a hash over names and bytes of the folder's weight and configuration files."""
    digest = hashlib.sha256()
    files = (p for p in folder.rglob("*") if p.suffix in HASHED_SUFFIXES and without not in p.parents)
    for path in sorted(files):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def read_model(folder: Path) -> Model:
    """Reads `folder/model.yaml`; ManifestError names every mistake."""
    path = folder / FILE_NAME
    try:
        manifest = Manifest.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise ManifestError(f"{path}: {error}") from error
    except ValidationError as error:
        raise ManifestError(_mistakes(path, error)) from error
    if manifest.id != folder.name:
        raise ManifestError(f"{path}: id is {manifest.id!r} but the folder is called {folder.name!r}")
    return Model(manifest=manifest, folder=folder)


def read_models(root: Path) -> Mapping[str, Model]:
    """Every model below `root`, by id; ManifestError when any `model.yaml` is wrong."""
    folders: Iterable[Path] = sorted(path.parent for path in root.glob(f"*/{FILE_NAME}"))
    return {model.manifest.id: model for model in map(read_model, folders)}


def _mistakes(path: Path, error: ValidationError) -> str:
    problems = error.errors(include_input=False, include_url=False)
    return "\n".join(f"{path}: {'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems)
