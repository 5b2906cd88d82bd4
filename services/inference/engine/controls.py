"""ControlNets: networks beside a UNet that read an image and add to the UNet's activations.

A control travels with its request as two rows of the denoiser's conditions, image and scale, so that requests with the
same kinds of control share a pass whatever their images and scales. The arithmetic is that of
`StableDiffusionControlNetPipeline` of diffusers 0.42; several controls add up, as in its `MultiControlNetModel`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from diffusers.image_processor import VaeImageProcessor

from services.inference.engine.canvas import picture
from services.inference.engine.errors import RequestRefused, Violation
from services.inference.engine.loading import check_whole
from services.inference.engine.manifest import Control, Model
from services.inference.engine.request import DrawRequest

IMAGE, SCALE = "control_image", "control_scale"


class Controls:
    """The ControlNets of one model. One that cannot be loaded fails the requests that name it, and no others."""

    def __init__(self, model: Model, unet: Any, device: str) -> None:
        self._unet = unet
        self._device = device
        self._nets: dict[str, Any] = {}
        self._images = VaeImageProcessor(do_convert_rgb=True, do_normalize=False)
        self.faults: dict[str, str] = {}  # why a kind cannot be had
        for kind, control in model.manifest.controls.items():
            try:
                self._nets[kind] = _loaded(model, control, unet).to(device)
            except Exception as error:  # noqa: BLE001 - the libraries have one for everything; the model draws without
                self.faults[kind] = f"control {kind} of {model.manifest.id} could not be loaded: {error}"

    def told(self, request: DrawRequest) -> dict[str, torch.Tensor]:
        """The request's controls as conditions of one row; RequestRefused for one that is not there."""
        rows: dict[str, torch.Tensor] = {}
        for number, control in enumerate(request.controls):
            if control.kind not in self._nets:
                why = self.faults.get(control.kind, f"control {control.kind} is not known")
                raise RequestRefused([Violation(f"controls[{number}].kind", why)])
            image = picture(f"controls[{number}].image", control.image)
            pixels = self._images.preprocess(image, height=request.height, width=request.width)
            name = f"{number}.{control.kind}"
            rows[f"{IMAGE}.{name}"] = pixels.to(device=self._device, dtype=self._unet.dtype)
            rows[f"{SCALE}.{name}"] = torch.full((1, 1, 1, 1), control.scale).to(rows[f"{IMAGE}.{name}"])
        return rows

    def residuals(self, conditions: Mapping[str, torch.Tensor], call: Callable[..., Any]) -> dict[str, Any]:
        """What the UNet is to be told besides; `call(net, image, scale)` runs a ControlNet as the UNet will be run."""
        down: list[torch.Tensor] = []
        middle: torch.Tensor | None = None
        for net, image, scale in self._each(conditions):
            more, more_middle = call(net, image, scale)
            down = [one + other for one, other in zip(down, more, strict=True)] if down else list(more)
            middle = more_middle if middle is None else middle + more_middle
        if middle is None:
            return {}
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}

    def _each(self, conditions: Mapping[str, torch.Tensor]) -> Iterator[tuple[Any, torch.Tensor, torch.Tensor]]:
        for name in sorted(name for name in conditions if name.startswith(f"{IMAGE}.")):
            _, number, kind = name.split(".", 2)
            yield self._nets[kind], conditions[name], conditions[f"{SCALE}.{number}.{kind}"]


def _loaded(model: Model, control: Control, unet: Any) -> Any:
    source = model.source(control)
    if control.path and not Path(source).is_dir():
        raise FileNotFoundError(f"nothing at {source}")
    net_class: Any = ControlNetModel
    net = net_class.from_pretrained(source, revision=control.revision or None, dtype=unet.dtype)
    check_whole(net)
    for name in ("cross_attention_dim", "block_out_channels"):
        theirs, ours = net.config[name], unet.config[name]
        if theirs != ours:
            raise ValueError(f"it is for another model: {name} {theirs} where this one has {ours}")
    return net.eval()
