"""The engine's stages as spans. The engine itself only tells facts; whoever hosts it calls this."""

from __future__ import annotations

from mesh import telemetry
from mesh.telemetry import TraceContext
from services.inference.engine.errors import EngineError
from services.inference.engine.facts import Finished, Stage

STEPS = "steps"
_KEYS = {  # what has a name in the semantic conventions; the rest is ours
    "model": "gen_ai.request.model",
    "pictures": "gen_ai.request.choice.count",
    "seed": "gen_ai.request.seed",
}
_NAMES = {"queue": "{engine}.queue"}  # the other stages keep their names


def record_stages(engine: str, last: Finished | EngineError, parent: TraceContext) -> None:
    """Records every stage of an ended request as a child of `parent`; the stage that failed carries the reason.

    Stretches of steps come before the stage they are a part of, and are its children.
    """
    if not parent.traceparent:
        return
    inner: list[Stage] = []
    for number, stage in enumerate(last.stages, start=1):
        if stage.name == STEPS:
            inner.append(stage)
            continue
        failed = isinstance(last, EngineError) and number == len(last.stages)
        name = _NAMES.get(stage.name, stage.name).format(engine=engine)
        place = _record(name, stage, parent, last.code if isinstance(last, EngineError) and failed else "")
        for stretch in inner:
            _record(STEPS, stretch, place)
        inner.clear()


def _record(name: str, stage: Stage, parent: TraceContext, error: str = "") -> TraceContext:
    return telemetry.record_span(
        name,
        start_ns=stage.start_ns,
        end_ns=stage.end_ns,
        parent=parent,
        attributes=_attributes(stage),
        error=error,
    )


def _attributes(stage: Stage) -> dict[str, str | int | float]:
    told = {_KEYS.get(key, f"imagemesh.{key}"): value for key, value in stage.attributes.items()}
    return {"gen_ai.operation.name": "image_generation", **told} if stage.name == "denoise" else told
