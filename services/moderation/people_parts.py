"""What people need in one process, put together: the queue, what follows from it, and the background tasks."""

from __future__ import annotations

import asyncio

from mesh.db import Database
from mesh.events import Bus
from mesh.process import Background
from mesh.telemetry import logger
from services.moderation.appealing import Appealing
from services.moderation.deciding import Deciding, StrikeRule
from services.moderation.image_pipeline import ImagePipeline
from services.moderation.peers.assets import Assets
from services.moderation.report_store import Reports
from services.moderation.review_service import ReviewParts, ReviewService
from services.moderation.review_store import Reviews
from services.moderation.storage_orders import StorageOrders
from services.moderation.strike_store import StrikeBook
from services.moderation.taking_down import LookAlikes, TakingDown
from services.moderation.wire_events import DECIDED

LOOK_S = 15.0  # between two looks for overdue reviews

log = logger(__name__)


class People:
    """Reviews, appeals, reports, takedowns and strikes. `start` and `stop` may each be called once, in order."""

    def __init__(
        self, database: Database, bus: Bus, outside: tuple[Assets, ImagePipeline], strikes: StrikeRule
    ) -> None:
        assets, pictures = outside
        self._bus = bus
        self.orders = StorageOrders(database, assets, LookAlikes(database, assets, pictures).block)
        self.deciding = Deciding(database, self.orders, strikes, self._tell)
        self.service = ReviewService(
            ReviewParts(
                Reviews(database),
                self.deciding,
                Appealing(database),
                Reports(database),
                TakingDown(database, assets, self.orders),
                StrikeBook(database),
            )
        )
        self._tasks = (Background("storage-orders", self.orders.run), Background("overdue-reviews", self._expire))

    async def start(self) -> None:
        """Begins to carry out what is left to do in storage, and to end overdue reviews."""
        for task in self._tasks:
            task.start()

    async def stop(self) -> None:
        """Ends both."""
        for task in self._tasks:
            await task.stop()

    async def _tell(self, job_id: str) -> None:
        await self._bus.signal(DECIDED + job_id)

    async def _expire(self) -> None:
        while True:
            try:
                while await self.deciding.expire():
                    pass
            except Exception as error:  # noqa: BLE001 - whatever it is, the reviews are kept and the next look may work
                log.warning("overdue reviews wait", error=type(error).__name__)
            await asyncio.sleep(LOOK_S)
