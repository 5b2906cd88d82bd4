"""The models of this service: their manifests, as they were when they were read, and their LoRAs as they are now."""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh import telemetry
from services.inference.engine.errors import ModelNotLoaded, ModelUnknown
from services.inference.engine.loras import LoraShelf
from services.inference.engine.manifest import ManifestError, Model, read_model, read_models
from services.inference.engine.request import SEEDS, DrawRequest, Wanted
from services.inference.engine.settling import settle

log = telemetry.logger(__name__)


def random_seed() -> int:
    """A seed for a request that names none."""
    return secrets.randbelow(SEEDS)


@dataclass(frozen=True)
class OwnModel:
    """A model, the version of the weights it had when it was read (empty when it has none), and its LoRAs."""

    model: Model
    version: str
    shelf: LoraShelf

    @property
    def loras(self) -> tuple[str, ...]:
        """The LoRAs that the last look found fit to be named."""
        return tuple(name for name, source in self.shelf.seen.items() if not source.fault)

    def look(self) -> None:
        """Looks at the LoRAs again; blocks for a moment."""
        before = _faults(self.shelf)
        self.shelf.look()
        for name, fault in _faults(self.shelf).items() - before.items():
            log.warning("a LoRA cannot be used", model=self.model.manifest.id, lora=name, reason=fault)


class Models:
    """Every model below a folder, by id."""

    def __init__(self, models: Mapping[str, Model], draw_seed: Callable[[], int] = random_seed) -> None:
        self._models = {name: _read(model) for name, model in sorted(models.items())}
        self._draw_seed = draw_seed

    @classmethod
    def read(cls, root: Path) -> Models:
        """Reads every `model.yaml` below `root` and hashes local weights; ManifestError when one is wrong."""
        return cls(read_models(root))

    def __iter__(self) -> Iterator[OwnModel]:
        return iter(self._models.values())

    @property
    def by_id(self) -> dict[str, Model]:
        """The models without their versions."""
        return {name: own.model for name, own in self._models.items()}

    def get(self, model_id: str) -> OwnModel:
        """The model; ModelUnknown lists the nearest names."""
        if model_id not in self._models:
            raise ModelUnknown(model_id, difflib.get_close_matches(model_id, self._models, n=3, cutoff=0.4))
        return self._models[model_id]

    def refresh(self, model_id: str) -> OwnModel:
        """Reads the model's manifest again and hashes its weights, before they are loaded anew; blocks.

        ModelNotLoaded when the `model.yaml` is wrong now; the old one then stays.
        """
        try:
            model = read_model(self.get(model_id).model.folder)
        except ManifestError as error:
            raise ModelNotLoaded(str(error)) from error
        self._models[model_id] = _read(model)
        return self._models[model_id]

    def settle(self, wanted: Wanted, version: str) -> DrawRequest:
        """The request with the model's defaults; RequestRefused, ModelUnknown, or ModelNotLoaded for a version that
        is not the one at hand. LoRAs are those of the last look."""
        own = self.get(wanted.model_id)
        if version and version != own.version:
            raise ModelNotLoaded(f"{wanted.model_id} is here in version {own.version or 'none'}, not {version}")
        return settle(wanted, own.model.manifest, self._draw_seed, own.shelf.seen)


def _read(model: Model) -> OwnModel:
    own = OwnModel(model, model.version() if model.has_weights else "", LoraShelf(model))
    own.look()
    return own


def _faults(shelf: LoraShelf) -> dict[str, str]:
    return {name: source.fault for name, source in shelf.seen.items() if source.fault}
