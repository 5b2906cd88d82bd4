"""Storage's messages and its domain values, each from the other, and the demands on every request. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from imagemesh.events.v1 import asset_pb2 as events_pb2
from imagemesh.storage.v1 import asset_pb2, storage_service_pb2
from imagemesh.type.v1 import image_pb2

from mesh.events import Event
from mesh.ids import derived_id
from mesh.telemetry import TraceContext
from mesh.validation import Rule, between, length, matches, one_of
from services.storage.assets import (
    FORMATS,
    Asset,
    Content,
    Decision,
    Filter,
    Kind,
    NewAsset,
    Piece,
    Provenance,
    Put,
    State,
)
from services.storage.renditions import Fit, Spec

MAX_INT64 = (1 << 63) - 1
ASSET_ID = r"ast_[a-z0-9_]{1,60}"
SHA256 = r"[0-9a-f]{64}"
OWN_ID = f"{ASSET_ID}|"
OWN_ID_FIX = "must be empty or ast_ and 1 to 60 lower-case letters, digits or underscores"
STATES = {state: asset_pb2.AssetState.Value(f"ASSET_STATE_{state}") for state in State}
KINDS = {kind: asset_pb2.AssetKind.Value(f"ASSET_KIND_{kind}") for kind in Kind}
FITS = {fit: asset_pb2.Fit.Value(f"FIT_{fit.name}") for fit in Fit}
STATE_OF = {number: state for state, number in STATES.items()}
KIND_OF = {number: kind for kind, number in KINDS.items()}
FIT_OF = {asset_pb2.FIT_UNSPECIFIED: Fit.CONTAIN, **{number: fit for fit, number in FITS.items()}}

EPOCH = Rule("epoch", between(0, MAX_INT64), "must be 0 or more")
ID = Rule("asset_id", matches(ASSET_ID), "must be an asset id, ast_…")
VERDICT = Rule("verdict_id", length(1, 64), "must be a verdict id of 1 to 64 characters")
REASON = Rule("reason", length(0, 256), "must have at most 256 characters")
CONTENT = Rule("sha256", matches(SHA256), "must be a lower-case hex SHA-256")
PROVENANCE = (
    Rule("provenance.job_id", length(0, 64), "must have at most 64 characters"),
    Rule("provenance.attempt_id", length(0, 64), "must have at most 64 characters"),
    Rule("provenance.index", between(0, 10_000), "must be 0 to 10000"),
    Rule("provenance.provider", length(0, 128), "must have at most 128 characters"),
    Rule("provenance.model", length(0, 256), "must have at most 256 characters"),
    Rule("provenance.model_version", length(0, 256), "must have at most 256 characters"),
    Rule("provenance.provider_request_id", length(0, 256), "must have at most 256 characters"),
    Rule("provenance.prompt_hash", matches(f"{SHA256}|"), "must be empty or a lower-case hex SHA-256"),
    Rule("provenance.steps", between(0, 100_000), "must be 0 to 100000"),
    Rule("provenance.guidance", between(0, 1e6), "must be 0 to 1000000"),
    Rule("provenance.source_asset_id", length(0, 0), "is set by storage; leave it empty"),
)
PUT_HEADER = (
    Rule("asset_id", matches(OWN_ID), OWN_ID_FIX),
    Rule("kind", one_of(*KIND_OF), "must be ASSET_KIND_INPUT or ASSET_KIND_OUTPUT"),
    Rule("media_type", one_of("", "image/png", "image/jpeg", "image/webp"), "must be image/png, -jpeg or -webp"),
    EPOCH,
    *PROVENANCE,
)
CALLERS_PUT_HEADER = (
    Rule("asset_id", length(0, 0), "is made by storage; leave it empty"),
    Rule("kind", one_of(asset_pb2.ASSET_KIND_INPUT), "must be ASSET_KIND_INPUT"),
    Rule("epoch", one_of(0), "is for the mesh itself; leave it 0"),
    Rule("provenance", lambda _: False, "is for the mesh itself; leave it unset"),
)
COPY = (
    Rule("source_asset_id", matches(ASSET_ID), "must be an asset id, ast_…"),
    Rule("asset_id", matches(OWN_ID), OWN_ID_FIX),
    EPOCH,
    *PROVENANCE,
)
READ = (
    ID,
    Rule("offset", between(0, MAX_INT64), "must be 0 or more"),
    Rule("limit", between(0, MAX_INT64), "must be 0 (to the end) or more"),
    Rule("rendition.fit", one_of(*FIT_OF), "must be a known fit"),
)
LIST = (
    Rule("page_size", between(0, 1_000_000), "must be 0 (the default, 50) or more"),
    Rule("state", one_of(0, *STATE_OF), "must be a known state"),
    Rule("kind", one_of(0, *KIND_OF), "must be a known kind"),
    Rule("job_id", length(0, 64), "must have at most 64 characters"),
)
GET = (ID,)
RESOLVE = (Rule("url", length(1, 2048), "must have 1 to 2048 characters"),)
PUBLISH = (ID, VERDICT, EPOCH)
WITHDRAW = (ID, REASON)
HOLD = (ID, REASON)
TAKE_DOWN = (CONTENT, REASON)
RESTORE = (
    CONTENT,
    Rule("asset_id", matches(f"{ASSET_ID}|"), "must be empty or an asset id, ast_…"),
    Rule("verdict_id", length(0, 64), "must have at most 64 characters"),
)
SIGN = (
    Rule("specs", length(1, 1000), "must have 1 to 1000 elements"),
    Rule("ttl.seconds", between(1, 7 * 86400), "must be 1 second to 7 days"),
)
URL_SPEC = (ID, Rule("rendition.fit", one_of(*FIT_OF), "must be a known fit"))


def put_of(header: storage_service_pb2.PutAssetHeader, tenant: str) -> Put:
    """What a checked header says."""
    return Put(
        tenant=tenant,
        kind=KIND_OF[header.kind],
        asset_id=header.asset_id,
        media_type=header.media_type,
        provenance=provenance_of(header.provenance),
        epoch=header.epoch,
    )


def piece_of(chunk: image_pb2.Chunk) -> Piece:
    """The chunk as a domain value."""
    return Piece(chunk.index, chunk.offset, chunk.data, chunk.last, chunk.sha256)


def copy_of(request: storage_service_pb2.CopyAssetRequest, tenant: str) -> NewAsset:
    """The row that a copy is to make; the kind follows from the source."""
    return NewAsset(request.asset_id, tenant, Kind.OUTPUT, provenance_of(request.provenance), request.epoch)


def decision_of(request: storage_service_pb2.PublishAssetRequest | storage_service_pb2.BlockAssetRequest) -> Decision:
    """The wish to publish or block."""
    seal = request.verdict_seal if isinstance(request, storage_service_pb2.PublishAssetRequest) else ""
    return Decision(request.asset_id, request.verdict_id, request.epoch, seal)


def filter_of(request: storage_service_pb2.ListAssetsRequest, tenant: str) -> Filter:
    """Which assets to list."""
    return Filter(
        tenant=tenant,
        state=STATE_OF.get(request.state),
        kind=KIND_OF.get(request.kind),
        job_id=request.job_id,
        from_us=request.created_after.ToMicroseconds() if request.HasField("created_after") else None,
        until_us=request.created_before.ToMicroseconds() if request.HasField("created_before") else None,
    )


def spec_of(message: asset_pb2.RenditionSpec) -> Spec:
    """The wanted rendition. A fit without both sides means what CONTAIN means, unless it was asked for."""
    return Spec(message.width, message.height, FIT_OF[message.fit], message.format, message.quality)


def provenance_of(message: asset_pb2.Provenance) -> Provenance:
    """How an asset was made."""
    return Provenance(
        job_id=message.job_id,
        attempt_id=message.attempt_id,
        index=message.index,
        provider=message.provider,
        model=message.model,
        model_version=message.model_version,
        provider_request_id=message.provider_request_id,
        prompt_hash=message.prompt_hash,
        seed=message.seed if message.HasField("seed") else None,
        steps=message.steps if message.HasField("steps") else None,
        guidance=message.guidance if message.HasField("guidance") else None,
    )


def to_asset(asset: Asset) -> asset_pb2.Asset:
    """The asset for the wire."""
    content = asset.content
    return asset_pb2.Asset(
        asset_id=asset.asset_id,
        tenant=asset.tenant,
        state=STATES[asset.state],
        kind=KINDS[asset.kind],
        sha256=content.sha256,
        width=content.width,
        height=content.height,
        format=content.format,
        size_bytes=content.size_bytes,
        provenance=to_provenance(asset.provenance),
        verdict_id=asset.verdict_id,
        hold=asset.hold,
        create_time=to_timestamp(asset.create_us),
        update_time=to_timestamp(asset.update_us),
        publish_time=None if asset.publish_us is None else to_timestamp(asset.publish_us),
    )


def to_provenance(provenance: Provenance) -> asset_pb2.Provenance:
    """How an asset was made, for the wire; what is None stays unset."""
    return asset_pb2.Provenance(**vars(provenance))


def to_read_header(asset: Asset, spec: Spec, content: Content) -> storage_service_pb2.ReadAssetHeader:
    """The first message of a read."""
    return storage_service_pb2.ReadAssetHeader(
        asset=to_asset(asset),
        rendition=None if spec.empty else to_rendition(asset, spec, content),
        media_type=FORMATS[content.format],
        size_bytes=content.size_bytes,
    )


def to_rendition(asset: Asset, spec: Spec, content: Content) -> asset_pb2.Rendition:
    """A stored rendition for the wire."""
    wanted = asset_pb2.RenditionSpec(
        width=spec.width, height=spec.height, fit=FITS[spec.fit], format=spec.format, quality=spec.quality
    )
    return asset_pb2.Rendition(
        asset_id=asset.asset_id,
        spec=wanted,
        sha256=content.sha256,
        width=content.width,
        height=content.height,
        format=content.format,
        size_bytes=content.size_bytes,
    )


def to_timestamp(us: int) -> Timestamp:
    """Microseconds since 1970-01-01 UTC as a timestamp."""
    return Timestamp(seconds=us // 1_000_000, nanos=us % 1_000_000 * 1_000)


Announce = Callable[[Asset, str], Event]


def announcer(place: TraceContext) -> Announce:
    """Makes events of assets that became PUBLISHED or TAKEN_DOWN, in the trace of the call that moved them."""

    def announce(asset: Asset, reason: str) -> Event:
        message = _published(asset) if asset.state is State.PUBLISHED else _taken_down(asset, reason)
        return Event(
            id=derived_id("evt", asset.asset_id, asset.version),
            type=message.DESCRIPTOR.name,
            tenant=asset.tenant,
            subject_id=asset.asset_id,
            data=message.SerializeToString(),
            version=asset.version,
            time_us=asset.update_us,
            traceparent=place.traceparent,
            tracestate=place.tracestate,
        )

    return announce


def http_date(us: int) -> str:
    """Microseconds since 1970-01-01 UTC as an HTTP date."""
    return datetime.fromtimestamp(us // 1_000_000, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")


def _published(asset: Asset) -> events_pb2.AssetPublished:
    return events_pb2.AssetPublished(
        tenant=asset.tenant,
        asset_id=asset.asset_id,
        job_id=asset.provenance.job_id,
        sha256=asset.content.sha256,
        verdict_id=asset.verdict_id,
        publish_time=to_timestamp(asset.update_us),
    )


def _taken_down(asset: Asset, reason: str) -> events_pb2.AssetTakenDown:
    return events_pb2.AssetTakenDown(
        tenant=asset.tenant,
        asset_id=asset.asset_id,
        sha256=asset.content.sha256,
        reason=reason,
        take_down_time=to_timestamp(asset.update_us),
    )
