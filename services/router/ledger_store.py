"""SQL of the ledger: one row of counters per budget, one row per entry.

Functions that take a connection run inside the caller's transaction, so that money moves with the fact that moves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mesh.db import Database, now_us
from mesh.errors import ResourceExhausted
from mesh.ids import new_id
from services.router import ledger
from services.router.ledger import Balance, Settlement
from services.router.tables import attempts, budgets, ledger_entries

_BUDGET = budgets.c.budget_id == sa.bindparam("budget")
_COMMITTED = budgets.c.reserved_micros + budgets.c.spent_micros + budgets.c.held_micros
_AMOUNT = sa.bindparam("amount", type_=sa.BigInteger)

_RESERVE = (
    sa.update(budgets)
    .where(_BUDGET, sa.or_(budgets.c.cap_micros.is_(None), budgets.c.cap_micros >= _COMMITTED + _AMOUNT))
    .values(reserved_micros=budgets.c.reserved_micros + _AMOUNT)
)
_SETTLE = (
    sa.update(budgets)
    .where(_BUDGET)
    .values(
        reserved_micros=budgets.c.reserved_micros - sa.bindparam("reserved", type_=sa.BigInteger),
        spent_micros=budgets.c.spent_micros + sa.bindparam("debit", type_=sa.BigInteger),
    )
)
_HOLD = sa.update(budgets).where(_BUDGET).values(held_micros=budgets.c.held_micros + _AMOUNT)
_BALANCE = sa.select(
    budgets.c.cap_micros, budgets.c.reserved_micros, budgets.c.spent_micros, budgets.c.held_micros
).where(_BUDGET)
_INSERT_ENTRY = sa.insert(ledger_entries)


@dataclass(frozen=True, slots=True)
class Account:
    """Whose money it is, and for which job."""

    tenant: str
    key_id: str
    user: str
    job_id: str
    model: str = ""
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger."""

    entry_id: str
    tenant: str
    key_id: str
    user: str
    job_id: str
    attempt_id: str
    kind: str
    amount_micros: int
    day: int
    model: str
    provider: str
    images: int
    create_time: int


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries of a tenant to list, newest first; empty fields match all. Times are [since, until)."""

    tenant: str
    key_id: str = ""
    job_id: str = ""
    kind: str = ""
    since: int = 0
    until: int = 0


@dataclass(frozen=True, slots=True)
class UsageRange:
    """Which debits to add up: whole UTC days [first_day, last_day], of one key when given."""

    tenant: str
    first_day: int
    last_day: int
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Totals of one group: the values of the grouped columns in the order asked for, jobs, pictures, micros."""

    group: tuple[str | int, ...]
    jobs: int
    images: int
    micros: int


GROUPS = {
    "day": ledger_entries.c.day,
    "model": ledger_entries.c.model,
    "provider": ledger_entries.c.provider,
    "user": ledger_entries.c.user,
    "key": ledger_entries.c.key_id,
}


def reserve(connection: sa.Connection, wanted: Sequence[tuple[Account, int]], time_us: int) -> None:
    """Reserves each amount for its job, all or nothing; ResourceExhausted (BUDGET_EXCEEDED) when a cap is too low."""
    charged = [(account, amount) for account, amount in wanted if account.key_id and amount]
    sums: dict[str, int] = {}
    for account, amount in charged:
        sums[account.key_id] = sums.get(account.key_id, 0) + amount
    for key_id, amount in sorted(sums.items()):
        if connection.execute(_RESERVE, {"budget": key_id, "amount": amount}).rowcount == 0:
            raise _exceeded(_balance(connection, key_id), amount)
    if charged:
        rows = [_entry(account, ledger.RESERVATION, amount, time_us) for account, amount in charged]
        connection.execute(_INSERT_ENTRY, rows)


def close(connection: sa.Connection, account: Account, settlement: Settlement, end: tuple[int, int | None]) -> None:
    """Settles the job's reservation. `end` is (time, pictures delivered); pictures None writes no debit."""
    time_us, images = end
    reserved = settlement.debit + settlement.release
    if account.key_id and reserved:
        connection.execute(_SETTLE, {"budget": account.key_id, "reserved": reserved, "debit": settlement.debit})
    rows = []
    if settlement.release and account.key_id:
        rows.append(_entry(account, ledger.RELEASE, settlement.release, time_us))
    if images is not None:
        rows.append(_entry(account, ledger.DEBIT, settlement.debit, time_us) | {"images": images})
    if rows:
        connection.execute(_INSERT_ENTRY, rows)


def hold(connection: sa.Connection, account: Account, attempt_id: str, amount: int, time_us: int) -> None:
    """Counts an attempt of unknown outcome against the cap, once, whatever it becomes and becomes again on the way.

    Its price may break the cap, since it may be spent.
    """
    if _entry_of(connection, attempt_id, ledger.HOLD) is not None:
        return
    if account.key_id:
        connection.execute(_HOLD, {"budget": account.key_id, "amount": amount})
    connection.execute(_INSERT_ENTRY, _entry(account, ledger.HOLD, amount, time_us, attempt_id))


def release_hold(connection: sa.Connection, attempt_id: str, time_us: int) -> bool:
    """Ends the attempt's hold, if it has an open one."""
    held = _entry_of(connection, attempt_id, ledger.HOLD)
    if held is None or _entry_of(connection, attempt_id, ledger.HOLD_RELEASE) is not None:
        return False
    account = Account(held.tenant, held.key_id, held.user, held.job_id, held.model, held.provider)
    connection.execute(_HOLD, {"budget": held.key_id, "amount": -held.amount_micros})
    connection.execute(_INSERT_ENTRY, _entry(account, ledger.HOLD_RELEASE, held.amount_micros, time_us, attempt_id))
    return True


def open_budget(connection: sa.Connection, budget_id: str, tenant: str, cap: int | None) -> None:
    """Makes the counters of a new key."""
    connection.execute(sa.insert(budgets), {"budget_id": budget_id, "tenant": tenant, "cap_micros": cap})


class LedgerStore:
    """What other parts read of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def balance(self, budget_id: str) -> Balance | None:
        """The counters of a budget; None when there is none."""
        return await self._database.read(lambda connection: _balance(connection, budget_id))

    async def entries(self, wanted: EntryFilter, after: str, limit: int) -> Sequence[Entry]:
        """Entries older than the entry id `after` (empty: from the newest)."""
        return await self._database.read(lambda connection: _entries(connection, wanted, after, limit))

    async def usage(self, wanted: UsageRange, group_by: Sequence[str]) -> Sequence[UsageRow]:
        """Debits added up by the columns named in `group_by` (keys of GROUPS)."""
        return await self._database.read(lambda connection: _usage(connection, wanted, group_by))

    async def expire_holds(self, limit: int = 100) -> int:
        """Ends holds older than HOLD_DAYS: from then on they are provider cost, no longer the caller's cap."""
        return await self._database.write(lambda connection: _expire_holds(connection, limit))


def _balance(connection: sa.Connection, budget_id: str) -> Balance | None:
    row = connection.execute(_BALANCE, {"budget": budget_id}).one_or_none()
    return None if row is None else Balance(*row)


def _exceeded(balance: Balance | None, amount: int) -> ResourceExhausted:
    remaining = 0 if balance is None else balance.remaining or 0
    return ResourceExhausted(
        f"the job may cost {amount / 1e6:.6f} USD and the key's budget has {remaining / 1e6:.6f} USD left",
        reason="BUDGET_EXCEEDED",
        metadata={"needed_micros": str(amount), "remaining_micros": str(remaining)},
    )


def _entry(account: Account, kind: str, amount: int, time_us: int, attempt_id: str = "") -> dict[str, Any]:
    return {
        "entry_id": new_id("led"),
        "tenant": account.tenant,
        "key_id": account.key_id,
        "user": account.user,
        "job_id": account.job_id,
        "attempt_id": attempt_id,
        "kind": kind,
        "amount_micros": amount,
        "day": ledger.day_of(time_us),
        "model": account.model,
        "provider": account.provider,
        "images": 0,
        "create_time": time_us,
    }


def _entry_of(connection: sa.Connection, attempt_id: str, kind: str) -> Entry | None:
    table = ledger_entries
    indexed = table.c.attempt_id != sa.literal_column("''")  # the partial index serves what says so
    row = connection.execute(
        sa.select(table).where(table.c.attempt_id == attempt_id, table.c.kind == kind, indexed)
    ).one_or_none()
    return None if row is None else Entry(*row)


def _entries(connection: sa.Connection, wanted: EntryFilter, after: str, limit: int) -> list[Entry]:
    table = ledger_entries
    query = sa.select(table).where(table.c.tenant == wanted.tenant)
    for column, value in (
        (table.c.key_id, wanted.key_id),
        (table.c.job_id, wanted.job_id),
        (table.c.kind, wanted.kind),
    ):
        if value:
            query = query.where(column == value)
    if wanted.since:
        query = query.where(table.c.create_time >= wanted.since)
    if wanted.until:
        query = query.where(table.c.create_time < wanted.until)
    if after:
        query = query.where(table.c.entry_id < after)
    rows = connection.execute(query.order_by(table.c.entry_id.desc()).limit(limit))
    return [Entry(*row) for row in rows]


def _usage(connection: sa.Connection, wanted: UsageRange, group_by: Sequence[str]) -> list[UsageRow]:
    table = ledger_entries
    columns = [GROUPS[name] for name in group_by]
    query = (
        sa.select(*columns, sa.func.count(), sa.func.sum(table.c.images), sa.func.sum(table.c.amount_micros))
        .where(table.c.tenant == wanted.tenant, table.c.kind == ledger.DEBIT)
        .where(table.c.day.between(wanted.first_day, wanted.last_day))
        .group_by(*columns)
        .order_by(*columns)
    )
    if wanted.key_id:
        query = query.where(table.c.key_id == wanted.key_id)
    split = len(columns)
    return [
        UsageRow(tuple(row[:split]), int(row[split]), int(row[split + 1] or 0), int(row[split + 2] or 0))
        for row in connection.execute(query)
    ]


def _expire_holds(connection: sa.Connection, limit: int) -> int:
    held, ended = ledger_entries.alias(), ledger_entries.alias()
    now: int = connection.execute(sa.select(now_us())).scalar_one()
    open_holds = (
        sa.select(held.c.attempt_id)
        .where(held.c.kind == ledger.HOLD, held.c.create_time < now - ledger.HOLD_DAYS * ledger.DAY_US)
        .where(~sa.exists().where(ended.c.attempt_id == held.c.attempt_id, ended.c.kind == ledger.HOLD_RELEASE))
        .limit(limit)
    )
    aged = [attempt_id for (attempt_id,) in connection.execute(open_holds)]
    unresolved = sa.update(attempts).where(attempts.c.attempt_id.in_(aged), attempts.c.state == "UNKNOWN")
    connection.execute(unresolved.values(cost_micros=attempts.c.worst_micros))
    return sum(release_hold(connection, attempt_id, now) for attempt_id in aged)
