"""Usage, limits and the ledger on the wire: what a valid request is, and how the ledger's values read as messages."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from google.type import money_pb2
from imagemesh.router.v1 import usage_pb2, usage_service_pb2

from mesh.errors import invalid
from mesh.validation import Rule, check, length, matches
from services.router import wire
from services.router.ledger import DAY_US, Balance, day_of
from services.router.ledger_store import Entry, EntryFilter, UsageRange, UsageRow
from services.router.money import Money

MAX_DAYS = 366

RANGE_RULES = (
    Rule("range.start_time", wire.time_ok, "a time from 1970 to 9999"),
    Rule("range.end_time", wire.time_ok, "a time from 1970 to 9999"),
)
USAGE_RULES = (
    *RANGE_RULES,
    Rule("group_by", wire.known(usage_pb2.UsageGroup), "DAY, MODEL, PROVIDER, KEY or USER"),
)
LEDGER_RULES = (
    *RANGE_RULES,
    Rule("job_id", matches(f"({wire.ID})?"), "the id of a job"),
    Rule("kind", wire.known(usage_pb2.LedgerEntryKind), "a kind of this contract"),
    Rule("page_token", length(0, 1024), "use the token of the page before"),
)

GROUP_COLUMNS: Mapping[usage_pb2.UsageGroup.ValueType, tuple[str, ...]] = {
    usage_pb2.USAGE_GROUP_UNSPECIFIED: (),
    usage_pb2.USAGE_GROUP_DAY: ("day",),
    usage_pb2.USAGE_GROUP_MODEL: ("model",),
    usage_pb2.USAGE_GROUP_PROVIDER: ("provider",),
    usage_pb2.USAGE_GROUP_KEY: ("key",),
    usage_pb2.USAGE_GROUP_USER: ("user",),
}
"""The ledger's columns that a report is grouped by."""


def read_usage(request: usage_service_pb2.GetUsageRequest, tenant: str, now_us: int) -> UsageRange:
    """Whole UTC days; without a start, from the first of the end's month; without an end, until now."""
    check(request, USAGE_RULES)
    end = wire.time_from_proto(request.range.end_time) if request.range.HasField("end_time") else now_us + 1
    last = day_of(max(end - 1, 0))
    first = day_of(wire.time_from_proto(request.range.start_time)) if _starts(request) else _first_of_month(last)
    if first > last:
        raise invalid("range.end_time", "must be after range.start_time")
    if last - first >= MAX_DAYS:
        raise invalid("range", f"at most {MAX_DAYS} days")
    return UsageRange(tenant=tenant, first_day=first, last_day=last)


def read_ledger(request: usage_service_pb2.ListLedgerEntriesRequest, tenant: str) -> EntryFilter:
    """Validates the filter; the page's size and token are read at the edge."""
    check(request, LEDGER_RULES)
    given = request.range
    return EntryFilter(
        tenant=tenant,
        job_id=request.job_id,
        kind=wire.enum_name(usage_pb2.LedgerEntryKind, request.kind) if request.kind else "",
        since=wire.time_from_proto(given.start_time) if given.HasField("start_time") else 0,
        until=wire.time_from_proto(given.end_time) if given.HasField("end_time") else 0,
    )


def usage_to_proto(row: UsageRow) -> usage_pb2.UsageRow:
    """A day is written `YYYY-MM-DD`."""
    return usage_pb2.UsageRow(
        group="".join(_day_text(part) if isinstance(part, int) else part for part in row.group),
        jobs=row.jobs,
        images=row.images,
        debit=_money(row.micros),
    )


def entry_to_proto(entry: Entry) -> usage_pb2.LedgerEntry:
    """Field by field."""
    return usage_pb2.LedgerEntry(
        entry_id=entry.entry_id,
        kind=wire.enum_number(usage_pb2.LedgerEntryKind, entry.kind),
        job_id=entry.job_id,
        attempt_id=entry.attempt_id,
        key_id=entry.key_id,
        amount=_money(entry.amount_micros),
        create_time=wire.time_to_proto(entry.create_time),
        user=entry.user,
    )


def limits_to_proto(
    balance: Balance | None, limits: Mapping[str, tuple[int, int]]
) -> usage_service_pb2.GetLimitsResponse:
    """`limits` holds (bound, used) by name. Without a balance the key has neither a cap nor spent anything."""
    known = balance or Balance(cap=None)
    return usage_service_pb2.GetLimitsResponse(
        limits=[usage_pb2.Limit(name=name, limit=bound, used=used) for name, (bound, used) in sorted(limits.items())],
        spend_cap=None if known.cap is None else _money(known.cap),
        spent=_money(known.spent),
        reserved=_money(known.reserved),
        held=_money(known.held),
    )


def _money(micros: int) -> money_pb2.Money:
    return wire.money_to_proto(Money(micros))


def _starts(request: usage_service_pb2.GetUsageRequest) -> bool:
    return request.range.HasField("start_time")


def _first_of_month(day: int) -> int:
    date = _date(day)
    return day - date.day + 1


def _date(day: int) -> datetime.date:
    return datetime.datetime.fromtimestamp(day * DAY_US / wire.US_PER_SECOND, datetime.UTC).date()


def _day_text(day: int) -> str:
    return _date(day).isoformat()
