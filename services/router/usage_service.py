"""The RPC edge of usage and limits: decode, read the ledger, encode."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from imagemesh.router.v1 import usage_service_pb2 as pb
from imagemesh.router.v1 import usage_service_pb2_grpc

from mesh.auth import principal
from mesh.errors import unimplemented
from mesh.paging import decode_token, encode_token, page_size
from services.router.ledger import Balance
from services.router.ledger_store import Entry, EntryFilter, UsageRange, UsageRow
from services.router.wire_usage import (
    GROUP_COLUMNS,
    entry_to_proto,
    limits_to_proto,
    read_ledger,
    read_usage,
    usage_to_proto,
)


class Ledger(Protocol):
    """What this edge needs of `ledger_store.LedgerStore`."""

    async def balance(self, budget_id: str) -> Balance | None:
        """The counters of a budget."""

    async def entries(self, wanted: EntryFilter, after: str, limit: int) -> Sequence[Entry]:
        """Entries older than `after`, newest first."""

    async def usage(self, wanted: UsageRange, group_by: Sequence[str]) -> Sequence[UsageRow]:
        """Debits added up."""


class Limits(Protocol):
    """Who knows the bounds that hold for a tenant."""

    async def limits(self, tenant: str) -> Mapping[str, tuple[int, int]]:
        """(bound, used now) by name, such as `queued_jobs`; a bound of 0 means none."""


class UsageService(usage_service_pb2_grpc.UsageServiceServicer):
    """Reports, limits and the ledger of the caller's tenant."""

    def __init__(self, ledger: Ledger, limits: Limits, clock_us: Callable[[], int] | None = None) -> None:
        self._ledger = ledger
        self._limits = limits
        self._clock_us = clock_us or (lambda: time.time_ns() // 1000)

    async def GetUsage(self, request: pb.GetUsageRequest, context: Any) -> pb.GetUsageResponse:
        """Debits of a range of days."""
        wanted = read_usage(request, principal().tenant, self._clock_us())
        rows = await self._ledger.usage(wanted, GROUP_COLUMNS[request.group_by])
        return pb.GetUsageResponse(rows=[usage_to_proto(row) for row in rows])

    async def GetLimits(self, request: pb.GetLimitsRequest, context: Any) -> pb.GetLimitsResponse:
        """What binds the calling key."""
        caller = principal()
        balance = await self._ledger.balance(caller.key_id)
        return limits_to_proto(balance, await self._limits.limits(caller.tenant))

    async def ListLedgerEntries(
        self, request: pb.ListLedgerEntriesRequest, context: Any
    ) -> pb.ListLedgerEntriesResponse:
        """The ledger, newest first."""
        wanted = read_ledger(request, principal().tenant)
        size, scope = page_size(request.page_size), repr(wanted)
        after = str(decode_token(request.page_token, scope)[0]) if request.page_token else ""
        rows = await self._ledger.entries(wanted, after, size + 1)
        token = encode_token((rows[size - 1].entry_id,), scope) if len(rows) > size else ""
        entries = [entry_to_proto(entry) for entry in rows[:size]]
        return pb.ListLedgerEntriesResponse(entries=entries, next_page_token=token)

    async def ListBudgets(self, request: pb.ListBudgetsRequest, context: Any) -> pb.ListBudgetsResponse:
        """For later."""
        raise unimplemented("UsageService.ListBudgets", "GetLimits tells the calling key's cap")

    async def SetBudget(self, request: pb.SetBudgetRequest, context: Any) -> pb.SetBudgetResponse:
        """For later."""
        raise unimplemented("UsageService.SetBudget", "give the API key a spend_cap")
