"""From a request to a stored job: validate, draw what is missing, quote, store in one transaction."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from imagemesh.router.v1 import job_pb2, job_service_pb2
from imagemesh.type.v1 import image_pb2

from mesh import imaging
from mesh.auth import Principal
from mesh.errors import FailedPrecondition, FieldViolation, InvalidArgument, MeshError, invalid
from mesh.ids import new_id
from mesh.telemetry import TraceContext
from mesh.validation import check
from services.router import job_events, wire, wire_record
from services.router.job_store import JobStore
from services.router.masks import check_mask
from services.router.planning import Planner, PlanRequest
from services.router.quoting import quote
from services.router.records import Identity, JobRecord, NewJob, Repeatable
from services.router.specs import JobOptions, effective_deadline_s
from services.router.wire_job import REQUEST_ID_RULES, read_creation, sources

Creation = job_service_pb2.CreateJobRequest | job_service_pb2.GenerateImageRequest


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a job comes from. job_id: the id it gets. trace: the call that creates it. parent: the job it retries."""

    job_id: str
    trace: TraceContext
    parent: JobRecord | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job as its caller sees it. repeated: the request id came before, and this is that job now.

    traceparent: the call that created it, when that was an earlier one.
    """

    job: job_pb2.Job
    lane: str
    repeated: bool = False
    traceparent: str = ""


class Submission:
    """Makes jobs. `draw` gives a seed where the caller gave none."""

    def __init__(
        self, jobs: JobStore, planner: Planner, draw: Callable[[], int] = lambda: secrets.randbits(32)
    ) -> None:
        self._jobs = jobs
        self._planner = planner
        self._draw = draw

    async def submit(self, caller: Principal, request: Creation, origin: Origin) -> Submitted:
        """Stores what the request asks for, or finds the job that the same request made before.

        Raises:
            MeshError: as `JobService.CreateJob` in the contract.
        """
        check(request, REQUEST_ID_RULES)
        repeatable = _repeatable(request.request_id, request)
        return await self._once(caller, request, origin, repeatable)

    async def retry(self, caller: Principal, request: job_service_pb2.RetryJobRequest, origin: Origin) -> Submitted:
        """A new job from the spec and options of `origin.parent`, seed included."""
        parent = origin.parent
        if parent is None or not parent.ended:
            raise FailedPrecondition(f"{request.job_id} has not ended; wait for it or cancel it")
        if parent.has_inputs:
            raise FailedPrecondition(f"the inline images of {request.job_id} were never stored; send them again")
        again = job_service_pb2.CreateJobRequest()
        again.spec.ParseFromString(parent.spec)
        again.options.ParseFromString(parent.options)
        return await self._once(caller, again, origin, _repeatable(request.request_id, request))

    async def _once(
        self, caller: Principal, request: Creation, origin: Origin, repeatable: Repeatable | None
    ) -> Submitted:
        try:
            return await self._store(caller, request, origin, repeatable)
        except MeshError:
            # What was accepted once stays accepted, whatever has changed since: prices, budget, the queue's depth.
            earlier = None if repeatable is None else await self._jobs.repeated(caller.tenant, repeatable)
            if earlier is None:
                raise
        return await self._again(caller.tenant, earlier)

    async def _store(
        self, caller: Principal, request: Creation, origin: Origin, repeatable: Repeatable | None
    ) -> Submitted:
        draft, options = await self._draft(caller, request, origin)
        if request.validate_only:
            draft.job_id = ""
            return Submitted(draft, options.lane)
        new = _new_job(caller, draft, options, origin)
        inputs = _take_inputs(draft.spec)
        created = await self._jobs.create(
            replace(new, spec=draft.spec.SerializeToString(), inputs=inputs, repeatable=repeatable)
        )
        if created.repeated:
            return await self._again(caller.tenant, created.job_id)
        draft.MergeFrom(job_pb2.Job(create_time=wire.time_to_proto(created.create_time)))
        return Submitted(draft, options.lane)

    async def _draft(self, caller: Principal, request: Creation, origin: Origin) -> tuple[job_pb2.Job, JobOptions]:
        """The job as it will be answered, quoted, with inline bytes still in it."""
        identity = identity_of(caller, request.options)
        spec, options = read_creation(request)
        await _check_inline(request.spec)
        seed_given = spec.seed is not None and not (origin.parent is not None and origin.parent.seed_drawn)
        wanted = PlanRequest(
            spec, options, seed_given=seed_given, models=frozenset(caller.models), tenant=caller.tenant
        )
        reserve = quote(self._planner, wanted).reserve
        job = job_pb2.Job(
            job_id=origin.job_id,
            version=1,
            state=job_pb2.JOB_STATE_QUEUED,
            spec=request.spec,
            options=request.options,
            quoted_cost=wire.money_to_proto(reserve),
            trace_id=origin.trace.trace_id,
            parent_job_id="" if origin.parent is None else origin.parent.job_id,
            seed_drawn=not seed_given,
        )
        job.options.user = identity.user
        job.spec.operation = job.spec.operation or job_pb2.OPERATION_TEXT_TO_IMAGE
        job.spec.model, job.spec.count = spec.model, spec.count
        if spec.seed is None:
            job.spec.seed = self._draw()
        wire_record.add_undrawn(job, "QUEUED")
        return job, options

    async def _again(self, tenant: str, job_id: str) -> Submitted:
        record, attempts = await self._jobs.get(tenant, job_id)
        return Submitted(wire_record.full_job(record, attempts), record.lane, True, record.traceparent)


def new_origin(trace: TraceContext, parent: JobRecord | None = None) -> Origin:
    """An origin with a fresh job id."""
    return Origin(new_id("job"), trace, parent)


def identity_of(caller: Principal, options: job_pb2.JobOptions) -> Identity:
    """Whose job it will be: a key bound to a user makes only that user's jobs; a service of the mesh has no budget."""
    if not caller.tenant:
        raise invalid("x-imagemesh-tenant", "an internal call names the tenant it acts for in this metadata")
    if caller.user and options.user not in ("", caller.user):
        fix = "this key is bound to another user; leave it empty"
        raise InvalidArgument(f"options.user: {fix}", violations=(FieldViolation("options.user", fix),))
    return Identity(caller.tenant, "" if caller.internal else caller.key_id, caller.user or options.user)


def _repeatable(request_id: str, request: Creation | job_service_pb2.RetryJobRequest) -> Repeatable | None:
    return Repeatable(request_id, wire.body_fingerprint(request)) if request_id else None


def _new_job(caller: Principal, job: job_pb2.Job, options: JobOptions, origin: Origin) -> NewJob:
    identity = identity_of(caller, job.options)
    return NewJob(
        job_id=job.job_id,
        identity=identity,
        lane=options.lane.value,
        model=job.spec.model,
        spec=b"",
        options=job.options.SerializeToString(),
        seed_drawn=job.seed_drawn,
        deadline_s=effective_deadline_s(options),
        quoted_micros=wire.money_from_proto(job.quoted_cost).micros,
        event=job_events.queued_message(identity.tenant, identity.key_id, job),
        labels=options.labels,
        parent_job_id=job.parent_job_id,
        traceparent=origin.trace.traceparent,
        tracestate=origin.trace.tracestate,
    )


def inline_images(spec: job_pb2.GenerationSpec) -> dict[str, image_pb2.ImageSource]:
    """The sources that hold bytes, by their path in the spec."""
    return {path: image for path, image in sources(spec) if image.WhichOneof("source") == "inline"}


async def _check_inline(spec: job_pb2.GenerationSpec) -> None:
    """Decodes every inline image, so that bad bytes are told at once; the error names the field. See `check_mask`."""
    sizes = {}
    for path, image in inline_images(spec).items():
        try:
            info = await imaging.decode_check(image.inline)
            sizes[path] = (info.width, info.height)
        except InvalidArgument as error:
            field = FieldViolation(f"spec.{path}", error.message)
            raise InvalidArgument(f"spec.{path}: {error.message}", reason=error.reason, violations=(field,)) from error
    if "mask" in sizes and "images[0]" in sizes:
        check_mask(sizes["images[0]"], sizes["mask"])


def _take_inputs(spec: job_pb2.GenerationSpec) -> dict[str, bytes]:
    """Takes the inline bytes out of the spec."""
    taken = {}
    for path, image in inline_images(spec).items():
        taken[path] = image.inline
        image.ClearField("inline")
    return taken
