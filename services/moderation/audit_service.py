"""The edge of AuditService: decode, call, encode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc.aio
from imagemesh.moderation.v1 import audit_service_pb2 as pb2
from imagemesh.moderation.v1 import audit_service_pb2_grpc

from mesh import telemetry
from mesh.auth import principal
from mesh.errors import NotFound
from mesh.paging import decode_token, encode_token, page_size
from mesh.validation import check
from services.moderation import wire_audit
from services.moderation.audit_store import AuditReader
from services.moderation.erasure import Erasure
from services.moderation.policy_changes import Who
from services.moderation.verification import Verification

Context = grpc.aio.ServicerContext[Any, Any]
EXPORT_PAGE = 100  # records in memory; the longest texts make half a megabyte each
VERIFYING = 2  # at the same time; more wait


@dataclass(frozen=True)
class AuditParts:
    """What the service calls."""

    reader: AuditReader
    verification: Verification
    erasure: Erasure


class AuditService(audit_service_pb2_grpc.AuditServiceServicer):
    """Reads, exports, verifies, erases."""

    def __init__(self, parts: AuditParts) -> None:
        self._parts = parts
        self._verifying = asyncio.Semaphore(VERIFYING)

    async def ListAuditRecords(
        self, request: pb2.ListAuditRecordsRequest, context: Context
    ) -> pb2.ListAuditRecordsResponse:
        """See the contract."""
        wanted, size = wire_audit.filter_of(request), page_size(request.page_size)
        scope = f"audit:{wanted}"
        before = int(decode_token(request.page_token, scope, (int,))[0]) if request.page_token else None
        rows = await self._parts.reader.newest(wanted, size + 1, before)
        page = wire_audit.fitting(map(wire_audit.record_out, rows[:size]))
        more = len(rows) > len(page)
        token = encode_token((rows[len(page) - 1]["sequence"],), scope) if more else ""
        return pb2.ListAuditRecordsResponse(records=page, next_page_token=token)

    async def ExportAuditRecords(
        self, request: pb2.ExportAuditRecordsRequest, context: Context
    ) -> AsyncIterator[pb2.ExportAuditRecordsResponse]:
        """See the contract."""
        wanted, after = wire_audit.export_of(request), None
        last = (await self._parts.reader.head()).last
        while rows := await self._parts.reader.oldest(wanted, EXPORT_PAGE, after):
            kept = [row for row in rows if row["sequence"] <= last]
            for piece in await asyncio.to_thread(wire_audit.pieces, kept):
                yield pb2.ExportAuditRecordsResponse(lines=piece)
            if len(kept) < EXPORT_PAGE:
                return
            after = rows[-1]["sequence"]

    async def VerifyAudit(self, request: pb2.VerifyAuditRequest, context: Context) -> pb2.VerifyAuditResponse:
        """See the contract."""
        check(request, wire_audit.VERIFY_RULES)
        async with self._verifying:
            with telemetry.span("moderation verify audit") as span:
                report = await self._parts.verification.run(request.from_sequence)
                span.set("imagemesh.audit.checked", report.checked)
                span.set("imagemesh.audit.intact", report.broken is None)
        return wire_audit.report_out(report)

    async def EraseUser(self, request: pb2.EraseUserRequest, context: Context) -> pb2.EraseUserResponse:
        """See the contract."""
        check(request, wire_audit.ERASE_RULES)
        who = Who(principal().key_id, telemetry.current().trace_id)
        count = await self._parts.erasure.user(request.tenant, request.user, who)
        if count == 0:
            raise NotFound("nothing is kept of that user of the tenant", reason="USER_NOT_FOUND")
        return pb2.EraseUserResponse(records=count)
