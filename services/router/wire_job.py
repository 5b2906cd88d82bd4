"""Jobs on the wire: what a valid request is, one table per message, and how it reads as domain values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from google.protobuf.json_format import MessageToDict
from imagemesh.router.v1 import job_pb2, job_service_pb2
from imagemesh.type.v1 import image_pb2

from mesh.validation import Rule, check, length, matches, refuse, refuse_set
from services.router import wire
from services.router.specs import (
    AUTO,
    CachePolicy,
    Control,
    GenerationSpec,
    Goal,
    ImageInput,
    JobOptions,
    Lane,
    Lora,
    Margins,
    OnUnknown,
    Operation,
    Output,
    ProviderOptions,
    Routing,
    Size,
)
from services.router.wire_conflicts import WITHOUT_PROMPT, filter_conflicts, option_conflicts, spec_conflicts
from services.router.wire_rules import (
    FILTER_RULES,
    OPTION_LATER,
    OPTION_RULES,
    PROMPT_NEEDED,
    SPEC_LATER,
    SPEC_RULES,
)


class Creation(Protocol):
    """A request that describes a job: CreateJobRequest, GenerateImageRequest, QuoteRequest."""

    @property
    def spec(self) -> job_pb2.GenerationSpec:
        """What to draw."""

    @property
    def options(self) -> job_pb2.JobOptions:
        """How to run it."""


REQUEST_ID_RULES = (Rule("request_id", matches(f"({wire.ID})?"), "at most 128 characters of A-Z a-z 0-9 _ . : -"),)
JOB_ID_RULES = (Rule("job_id", matches(wire.ID), "name the job, such as job_01h…"),)
RETRY_RULES = (*JOB_ID_RULES, *REQUEST_ID_RULES)
GET_RULES = (*JOB_ID_RULES, Rule("view", wire.known(job_service_pb2.JobView), "BASIC or FULL"))
LIST_RULES = (
    Rule("view", wire.known(job_service_pb2.JobView), "BASIC or FULL"),
    Rule("page_token", length(0, 1024), "use the token of the page before"),
)


def read_creation(request: Creation) -> tuple[GenerationSpec, JobOptions]:
    """Validates a request that describes a job.

    Raises:
        Unimplemented: a field of a later version is set; it is named.
        InvalidArgument: every wrong field is named, conflicting ones both.
    """
    check_spec(request.spec)
    check_options(request.options)
    return spec_from_proto(request.spec), options_from_proto(request.options)


def check_spec(spec: job_pb2.GenerationSpec, prefix: str = "spec.") -> None:
    """Fields for later first, then each field alone, then fields against each other."""
    refuse_set(spec, SPEC_LATER, prefix)
    check(spec, SPEC_RULES if spec.operation in WITHOUT_PROMPT else (PROMPT_NEEDED, *SPEC_RULES), prefix)
    refuse(spec_conflicts(spec, prefix))


def check_options(options: job_pb2.JobOptions, prefix: str = "options.") -> None:
    """Fields for later first, then each field alone, then fields against each other."""
    refuse_set(options, OPTION_LATER, prefix)
    check(options, OPTION_RULES, prefix)
    refuse(option_conflicts(options, prefix))


def check_list(request: job_service_pb2.ListJobsRequest) -> None:
    """Validates ListJobs, its filter included; page sizes are checked where they are read."""
    check(request, LIST_RULES)
    check(request.filter, FILTER_RULES, "filter.")
    refuse(filter_conflicts(request.filter, "filter."))


def spec_from_proto(spec: job_pb2.GenerationSpec) -> GenerationSpec:
    """Reads a valid spec; what is unset stays None or empty."""
    return GenerationSpec(
        prompt=spec.prompt,
        operation=wire.read_enum(job_pb2.Operation, spec.operation, Operation, Operation.TEXT_TO_IMAGE),
        negative_prompt=spec.negative_prompt,
        model=spec.model or AUTO,
        model_version=spec.model_version,
        size=Size(spec.size.width, spec.size.height) if spec.HasField("size") else None,
        aspect_ratio=spec.aspect_ratio,
        count=spec.count or 1,
        seed=spec.seed if spec.HasField("seed") else None,
        steps=spec.steps if spec.HasField("steps") else None,
        guidance=spec.guidance if spec.HasField("guidance") else None,
        scheduler=spec.scheduler,
        strength=spec.strength if spec.HasField("strength") else None,
        images=tuple(image_from_proto(image) for image in spec.images),
        mask=image_from_proto(spec.mask) if spec.HasField("mask") else None,
        controls=tuple(control_from_proto(control) for control in spec.controls),
        loras=tuple(lora_from_proto(lora) for lora in spec.loras),
        margins=margins_from_proto(spec.outpaint) if spec.HasField("outpaint") else None,
        upscale_factor=spec.upscale_factor,
        output=Output(spec.output.format, spec.output.quality, spec.output.transparent_background),
        provider_options=provider_options_from_proto(spec),
    )


def image_from_proto(image: image_pb2.ImageSource) -> ImageInput:
    """Reads the one source that is set."""
    return ImageInput(asset_id=image.asset_id, inline=image.inline, url=image.url)


def sources(spec: job_pb2.GenerationSpec) -> Iterator[tuple[str, image_pb2.ImageSource]]:
    """Every picture of a spec, with its path."""
    for number, image in enumerate(spec.images):
        yield f"images[{number}]", image
    if spec.HasField("mask"):
        yield "mask", spec.mask
    for number, control in enumerate(spec.controls):
        yield f"controls[{number}].image", control.image


def control_from_proto(control: job_pb2.Control) -> Control:
    """Reads a guide; a scale that is unset stays None."""
    scale = control.scale if control.HasField("scale") else None
    return Control(control.kind, image_from_proto(control.image), scale)


def lora_from_proto(lora: job_pb2.Lora) -> Lora:
    """Reads a fine-tune; a scale that is unset stays None."""
    return Lora(lora.lora_id, lora.scale if lora.HasField("scale") else None)


def margins_from_proto(margins: job_pb2.OutpaintMargins) -> Margins:
    """Reads all four sides."""
    return Margins(margins.left, margins.top, margins.right, margins.bottom)


def provider_options_from_proto(spec: job_pb2.GenerationSpec) -> ProviderOptions:
    """Options by provider; whole numbers are ints, since a Struct knows only floats."""
    return {name: _whole_numbers(MessageToDict(options)) for name, options in spec.provider_options.items()}


def options_from_proto(options: job_pb2.JobOptions) -> JobOptions:
    """Reads valid options; what is unset stays None or empty."""
    return JobOptions(
        lane=wire.read_enum(job_pb2.Lane, options.lane, Lane, Lane.INTERACTIVE),
        routing=routing_from_proto(options.routing),
        cache=CachePolicy(wire.enum_name(job_pb2.CachePolicy, options.cache)) if options.cache else None,
        deadline_s=wire.duration_from_proto(options.deadline) if options.HasField("deadline") else None,
        user=options.user,
        labels=dict(options.labels),
        max_cost=wire.money_from_proto(options.max_cost) if options.HasField("max_cost") else None,
    )


def routing_from_proto(routing: job_pb2.Routing) -> Routing:
    """Reads a valid routing; fallback is on unless switched off."""
    return Routing(
        goal=wire.read_enum(job_pb2.Goal, routing.goal, Goal, Goal.CATALOG),
        strengths=tuple(routing.strengths),
        allow=tuple(routing.allow),
        deny=tuple(routing.deny),
        fallback=routing.fallback if routing.HasField("fallback") else True,
        on_unknown=wire.read_enum(job_pb2.OnUnknown, routing.on_unknown, OnUnknown, OnUnknown.NEXT),
        hedge=routing.hedge,
        may_drop=tuple(routing.may_drop),
    )


def _whole_numbers(options: dict[str, object]) -> dict[str, object]:
    return {
        key: int(value) if isinstance(value, float) and value.is_integer() else value for key, value in options.items()
    }
