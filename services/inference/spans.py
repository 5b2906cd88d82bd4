"""The engine's stages as spans. The engine itself only tells facts; whoever hosts it calls this."""

from __future__ import annotations

from mesh import telemetry
from mesh.telemetry import TraceContext
from services.inference.engine.errors import EngineError
from services.inference.engine.facts import Finished, Stage

_KEYS = {  # what has a name in the semantic conventions; the rest is ours
    "model": "gen_ai.request.model",
    "pictures": "gen_ai.request.choice.count",
    "seed": "gen_ai.request.seed",
}
_NAMES = {"queue": "{engine}.queue"}  # the other stages keep their names


def record_stages(engine: str, last: Finished | EngineError, parent: TraceContext) -> None:
    """Records every stage of an ended request as a child of `parent`; the stage that failed carries the reason."""
    if not parent.traceparent:
        return
    for number, stage in enumerate(last.stages, start=1):
        failed = isinstance(last, EngineError) and number == len(last.stages)
        telemetry.record_span(
            _NAMES.get(stage.name, stage.name).format(engine=engine),
            start_ns=stage.start_ns,
            end_ns=stage.end_ns,
            parent=parent,
            attributes=_attributes(stage),
            error=last.code if isinstance(last, EngineError) and failed else "",
        )


def _attributes(stage: Stage) -> dict[str, str | int | float]:
    told = {_KEYS.get(key, f"imagemesh.{key}"): value for key, value in stage.attributes.items()}
    return {"gen_ai.operation.name": "image_generation", **told} if stage.name == "denoise" else told
