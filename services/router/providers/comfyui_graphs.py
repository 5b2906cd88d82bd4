"""ComfyUI's graphs: vetted workflows with named slots, one JSON file each, and what they can do together.

A caller fills slots, and never brings a graph: nodes can read files and run code. A file says for which operation it
is (OUTPAINT is an inpaint of a padded picture), which node's pictures are the result, and which input of which node a
slot is; what a call leaves open stays as the file has it. All four stand on nodes that come with ComfyUI; results and
sources lie in its `temp` folder, which it empties when it starts.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.router.providers.base import Capabilities, ProviderCall

FOLDER = Path(__file__).parent / "comfyui_workflows"
FACTORS = (2, 3, 4)
SAMPLERS: Mapping[str, str] = {"euler_a": "euler_ancestral", "unipc": "uni_pc"}
"""ComfyUI's names of schedulers that go by another name everywhere else here; others are passed as they are."""
Nodes = dict[str, Any]


@dataclass(frozen=True)
class Workflow:
    """One file."""

    operation: str
    result: str
    """The node whose pictures are the result."""
    slots: Mapping[str, str]
    """`node.input` by the slot's name."""
    nodes: Nodes

    def filled(self, values: Mapping[str, object]) -> Nodes:
        """The graph with these values in its slots; None and "" leave a slot as it is.

        Raises:
            KeyError: a value is given for a slot that the workflow does not have.
        """
        nodes = copy.deepcopy(self.nodes)
        for name, value in values.items():
            if value not in (None, ""):
                node, _, field = self.slots[name].partition(".")
                nodes[node]["inputs"][field] = value
        return nodes


@functools.cache
def workflows(folder: Path = FOLDER) -> Mapping[str, Workflow]:
    """The workflows of a folder by operation; read once.

    Raises:
        ValueError: a slot names an input that its graph does not have.
    """
    read = [Workflow(**json.loads(path.read_text("utf-8"))) for path in sorted(folder.glob("*.json"))]
    for one in read:
        for slot in (*one.slots.values(), f"{one.result}.images"):
            node, _, field = slot.partition(".")
            if field not in one.nodes.get(node, {}).get("inputs", {}):
                raise ValueError(f"the workflow for {one.operation} has no input {slot}")
    return {one.operation: one for one in read}


def workflow_for(operation: str) -> Workflow:
    """The workflow that serves an operation. Raises KeyError when there is none."""
    return workflows()["INPAINT" if operation == "OUTPAINT" else operation]


@functools.cache
def capabilities_of_workflows() -> Capabilities:
    """What the workflows can do, by the slots that they have. One picture a call: a batch has no seeds of its own."""
    known = workflows()
    slots = {slot for one in known.values() for slot in one.slots}
    return Capabilities(
        frozenset(known) | ({"OUTPAINT"} if "INPAINT" in known else set()),
        max_count=1,
        seed="seed" in slots,
        negative_prompt="negative_prompt" in slots,
        steps="steps" in slots,
        guidance="guidance" in slots,
        scheduler="sampler" in slots,
        strength="strength" in slots,
        max_images=1 if "image" in slots else 0,
        upscale_factors=FACTORS if "UPSCALE" in known else (),
        resumable=True,
        cancelable=True,
        progress=True,
        previews=True,
    )


def values_of(call: ProviderCall, seed: int) -> dict[str, object]:
    """What goes into the slots of a drawing, besides its pictures. A scheduler is `sampler` or `sampler/scheduler`."""
    sampler, _, schedule = call.scheduler.partition("/")
    size = {"width": call.width or None, "height": call.height or None} if call.operation == "TEXT_TO_IMAGE" else {}
    return {
        "model": call.model,
        "prompt": call.prompt,
        "negative_prompt": call.negative_prompt,
        "seed": seed,
        "steps": call.steps,
        "guidance": call.guidance,
        "sampler": SAMPLERS.get(sampler, sampler),
        "schedule": schedule,
        "strength": call.strength,
        **size,
    }
