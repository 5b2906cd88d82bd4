"""An ended job and its pictures."""

from __future__ import annotations

import hashlib
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

from imagemesh.errors import Details, DownloadError, ImagemeshError
from imagemesh.generation import from_money
from imagemesh.router.v1 import job_pb2

DOWNLOAD_SECONDS = 60.0
DOWNLOAD_ATTEMPTS = 4
LARGEST_PICTURE = 64 * 1024 * 1024
FreshUrl = Callable[[int], str]


class Picture:
    """One published picture. Bytes are fetched on first use and checked against the job's sha256."""

    def __init__(self, message: job_pb2.JobImage, fresh_url: FreshUrl) -> None:
        self.message = message
        self._fresh_url = fresh_url
        self._data: bytes | None = None

    @property
    def url(self) -> str:
        """A signed address that works until `message.url_expire_time`; empty while storage did not answer."""
        return self.message.url

    @property
    def format(self) -> str:
        """`png`, `jpeg` or `webp`."""
        return self.message.format

    def read(self) -> bytes:
        """The original's bytes; asks once for a new address when the old one is over. Raises DownloadError."""
        if self._data is None:
            self._data = self._fetch()
        return self._data

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the original; an existing file is replaced as a whole."""
        target = Path(path)
        draft = target.with_name(f".{target.name}.part")
        draft.write_bytes(self.read())
        draft.replace(target)
        return target

    def _fetch(self) -> bytes:
        try:
            return download(self.url or self._fresh_url(self.message.index), self.message.sha256)
        except DownloadError as error:
            if error.details.code != "PERMISSION_DENIED":
                raise
        return download(self._fresh_url(self.message.index), self.message.sha256)


class JobResult:
    """A job that succeeded, with what a caller wants of it; the whole is in `message`."""

    def __init__(self, message: job_pb2.Job, fresh_url: FreshUrl) -> None:
        self.message = message
        self.images: Sequence[Picture] = [
            Picture(image, fresh_url) for image in message.images if image.state == job_pb2.IMAGE_STATE_PUBLISHED
        ]

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.message.job_id

    @property
    def from_cache(self) -> bool:
        """True when an earlier result was served; it costs nothing."""
        return self.message.cache_hit

    @property
    def cost(self) -> Decimal:
        """What was debited, in `currency`."""
        return from_money(self.message.cost)

    @property
    def currency(self) -> str:
        """ISO 4217 code of `cost`."""
        return str(self.message.cost.currency_code)


def fresh_url_of(job: job_pb2.Job, index: int) -> str:
    """The address of one picture in a job just read. Raises DownloadError when there is none."""
    for image in job.images:
        if image.index == index and image.url:
            return str(image.url)
    raise DownloadError(f"picture {index} of {job.job_id} has no address now", Details(code="UNAVAILABLE"))


def download(url: str, sha256: str) -> bytes:
    """The bytes behind a signed address. Server faults are tried again; a wrong hash is an error."""
    for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
        try:
            data = _get(url)
            break
        except ImagemeshError as error:
            if error.details.code != "UNAVAILABLE" or attempt == DOWNLOAD_ATTEMPTS:
                raise
            time.sleep(0.1 * 2**attempt)
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise DownloadError("the picture's bytes are not the ones the job names", Details("DATA_LOSS"))
    return data


def _get(url: str) -> bytes:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError("the picture's address is neither http nor https", Details("INVALID_ARGUMENT"))
    try:
        with urllib.request.urlopen(url, timeout=DOWNLOAD_SECONDS) as answer:
            data: bytes = answer.read(LARGEST_PICTURE + 1)
    except urllib.error.HTTPError as error:
        code = {403: "PERMISSION_DENIED", 404: "NOT_FOUND"}.get(error.code, "UNAVAILABLE")
        raise DownloadError(f"storage answered {error.code} for the picture", Details(code)) from error
    except OSError as error:
        raise DownloadError(f"the picture could not be fetched: {error}", Details("UNAVAILABLE")) from error
    if len(data) > LARGEST_PICTURE:
        raise DownloadError("the picture is larger than 64 MiB", Details("OUT_OF_RANGE"))
    return data
