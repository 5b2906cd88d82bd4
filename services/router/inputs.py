"""Bringing a caller's pictures in: fetched or taken, decoded, kept in quarantine, and judged once the texts are. The
stored spec then names assets only, and the inline bytes are gone from the queue.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urljoin, urlsplit

from aiohttp import TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from imagemesh.router.v1 import job_pb2
from imagemesh.type.v1 import image_pb2

from mesh.errors import InvalidArgument, Unavailable
from mesh.ids import derived_id
from mesh.imaging import decode_check
from services.router.job_store import JobStore
from services.router.judging import Judge
from services.router.leases import Parking
from services.router.masks import check_mask
from services.router.peers.storage import INPUT, Provenance, Storage, Upload
from services.router.providers.http import (
    AnswerTooLargeError,
    HttpAnswer,
    HttpClient,
    HttpConfig,
    HttpError,
    HttpRequest,
    PooledHttpClient,
)
from services.router.queue_store import QueueStore
from services.router.runs import Run
from services.router.wire_job import sources, spec_from_proto

FETCH_TIMEOUT = 20.0
FETCH_BYTES = 20 * 1024 * 1024
REDIRECTS = 3
_REDIRECT = frozenset({301, 302, 303, 307, 308})
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an address belongs to the open internet, also when it is wrapped in an IPv6 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


class PublicResolver(AbstractResolver):
    """Looks names up and keeps quiet about private addresses; what it answers is what gets connected to."""

    def __init__(self, inner: AbstractResolver | None = None) -> None:
        self._inner = inner or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The public addresses of `host`."""
        found = await self._inner.resolve(host, port, family)
        public = [entry for entry in found if is_public(entry["host"])]
        if not public:
            raise OSError("no public address")
        return public

    async def close(self) -> None:
        """See `AbstractResolver.close`."""
        await self._inner.close()


class UrlFetcher:
    """Fetches addresses that callers give: https, public hosts, capped in size and time; redirects alike."""

    def __init__(self, http: HttpClient | None = None, *, allow_private: bool = False) -> None:
        """`allow_private` also lets http and private hosts through; for tests and closed networks."""
        self._allow_private = allow_private
        self._own = None if http else PooledHttpClient(HttpConfig(max_answer_bytes=FETCH_BYTES), self._connector)
        self._http: HttpClient = http or self._own  # type: ignore[assignment]

    async def close(self) -> None:
        """Close its connections."""
        if self._own is not None:
            await self._own.close()

    async def fetch(self, url: str) -> bytes:
        """The bytes at `url`.

        Raises:
            InvalidArgument: URL_NOT_FETCHABLE. Unavailable: the host does not answer now.
        """
        for _ in range(REDIRECTS + 1):
            self._check(url)
            answer = await self._get(url)
            if answer.status not in _REDIRECT:
                return _body(answer)
            url = urljoin(url, answer.headers.get("Location", ""))
        raise not_fetchable("it redirects too often")

    def _connector(self) -> TCPConnector:
        return TCPConnector(resolver=None if self._allow_private else PublicResolver(), force_close=True)

    def _check(self, url: str) -> None:
        parts = urlsplit(url)
        if self._allow_private and parts.scheme in ("http", "https") and parts.hostname:
            return
        if parts.scheme != "https" or not parts.hostname or parts.username:
            raise not_fetchable("only https addresses without credentials are fetched")
        try:
            public = is_public(parts.hostname)
        except ValueError:
            return  # a name: the resolver decides
        if not public:
            raise not_fetchable("its host is not public")

    async def _get(self, url: str) -> HttpAnswer:
        try:
            return await self._http.send(HttpRequest("GET", url, FETCH_TIMEOUT))
        except AnswerTooLargeError as error:
            raise not_fetchable(f"it has more than {FETCH_BYTES} bytes") from error
        except HttpError as error:
            raise not_fetchable(str(error)) from error


def not_fetchable(why: str) -> InvalidArgument:
    """The error for an address that gives no picture. The address itself may carry a secret and is not repeated."""
    return InvalidArgument(f"the image's address cannot be fetched: {why}", reason="URL_NOT_FETCHABLE")


def _body(answer: HttpAnswer) -> bytes:
    if answer.status in (429, 503):
        raise Unavailable("the image's host does not answer now", retry_after=5.0)
    if answer.status != 200:
        raise not_fetchable(f"it answered {answer.status}")
    return answer.body


@dataclass(frozen=True)
class Inputs:
    """The two steps."""

    jobs: JobStore
    queue: QueueStore
    storage: Storage
    judge: Judge
    fetcher: UrlFetcher

    def needed(self, run: Run) -> bool:
        """Whether the job has pictures that are not known to be judged."""
        return bool(run.spec.images or run.spec.mask or run.spec.controls) and not run.attempts

    async def bring(self, run: Run) -> None:
        """Store every picture of the spec."""
        spec = job_pb2.GenerationSpec.FromString(run.job.spec)
        inline = await self.jobs.read_inputs(run.lease.job_id) if run.job.has_inputs else {}
        for path, source in sources(spec):
            if not source.asset_id:
                source.CopyFrom(image_pb2.ImageSource(asset_id=await self._keep(run, path, source, inline)))
        stored = spec.SerializeToString()
        if stored != run.job.spec:
            await self.queue.store_inputs(run.lease, stored)
            run.job, run.spec = replace(run.job, spec=stored, has_inputs=False), spec_from_proto(spec)

    async def judge_all(self, run: Run) -> Parking | None:
        """Judge every picture that was brought in; a refusal is noted as the run's ending."""
        for _, source in sources(job_pb2.GenerationSpec.FromString(run.job.spec)):
            parking = await self.judge.input(run, source.asset_id)
            if parking is not None or run.ending is not None:
                return parking
        await self._check_mask(run)
        return None

    async def _check_mask(self, run: Run) -> None:
        """A mask of another size would be stretched by one provider and refused, or wrongly laid, by the next."""
        if run.spec.mask is not None and run.spec.images:
            image, mask = [
                await decode_check((await self.storage.read(run.holder, source.asset_id))[0])
                for source in (run.spec.images[0], run.spec.mask)
            ]
            check_mask((image.width, image.height), (mask.width, mask.height))

    async def _keep(self, run: Run, path: str, source: image_pb2.ImageSource, inline: Mapping[str, bytes]) -> str:
        data = await self.fetcher.fetch(source.url) if source.url else inline.get(path, source.inline)
        info = await decode_check(data)
        asset_id = derived_id("ast", run.lease.job_id, path)
        made = Provenance(run.lease.job_id)
        asset = await self.storage.put(run.holder, Upload(asset_id, data, info.media_type, made, INPUT))
        return asset.asset_id
