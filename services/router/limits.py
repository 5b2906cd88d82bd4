"""What binds a tenant, as UsageService tells it."""

from __future__ import annotations

from collections.abc import Mapping

from services.router.config import ApiSettings
from services.router.job_store import JobStore
from services.router.watching import Watching


class Limits:
    """Bounds of this process and what is used of them."""

    def __init__(self, jobs: JobStore, settings: ApiSettings, watching: Watching) -> None:
        self._jobs = jobs
        self._settings = settings
        self._watching = watching

    async def limits(self, tenant: str) -> Mapping[str, tuple[int, int]]:
        """(bound, used now) by name; `concurrent_watches` is of this process, all tenants together."""
        return {
            "queued_jobs": (self._settings.queue_limit, await self._jobs.unfinished(tenant)),
            "concurrent_watches": (self._settings.watch_limit, self._watching.count),
        }
