"""Reports in SQL: folded by picture, limited by reporter and tenant, ended by a takedown or a dismissal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from mesh.db import Database, insert_or_ignore
from mesh.errors import ResourceExhausted
from mesh.ids import derived_id, new_id
from services.moderation import audit
from services.moderation.audit import AuditEntry
from services.moderation.peers.assets import AssetFacts
from services.moderation.policy_changes import Who
from services.moderation.report_tables import REPORT_VOICES, REPORTS
from services.moderation.review_rows import storable
from services.moderation.review_store import clock
from services.moderation.review_tables import REVIEWS
from services.moderation.reviews import DUE_S, SEVERITIES, Cause, Review, Severity, State
from services.moderation.verdicts import Category

REPORTER_HOURLY = 20
TENANT_HOURLY = 1_000
HOUR_US = 3_600_000_000
OPEN, UPHELD, DISMISSED = "OPEN", "UPHELD", "DISMISSED"
P, V = REPORTS.c, REPORT_VOICES.c
Place = tuple[int, int, str]  # severity, when the first came, id


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a reporter says. reporter: as the tenant names them; empty: nobody in particular."""

    reason: Category
    statement: str = ""
    reporter: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Reports of one picture. reason, statement and reporter are the first one's; severity the highest of all."""

    report_id: str
    folding: str
    tenant: str
    asset_id: str
    sha256: str
    state: str
    severity: Severity
    reason: Category
    statement: str
    reporter: str
    count: int
    create_us: int
    due_us: int


class Reports:
    """The reports of every tenant. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, state: str, after: Place | None, size: int) -> Sequence[Report]:
        """Those in the state, the most severe first, oldest first within a severity."""
        return await self._database.read(lambda c: _page(c, state, after, size))


def add(connection: sa.Connection, asset: AssetFacts, complaint: Complaint) -> Report:
    """Counts the complaint to the picture's open report, or opens one; ResourceExhausted above the limits."""
    now = clock(connection)
    _refuse_too_many(connection, asset.tenant, complaint.reporter, now)
    report = _opened(connection, asset, complaint, now)
    unknown = (report.report_id, new_id("vce")) if not complaint.reporter else (report.report_id, complaint.reporter)
    voice = {
        "voice_id": derived_id("vce", *unknown),
        "report_id": report.report_id,
        "tenant": asset.tenant,
        "reporter": complaint.reporter,
        "create_us": now,
    }
    if not insert_or_ignore(connection, REPORT_VOICES, voice):
        return report
    severity = max(SEVERITIES[complaint.reason], report.severity)
    changed = {"count": P.count + 1, "severity": int(severity)}
    connection.execute(sa.update(REPORTS).where(P.report_id == report.report_id).values(**changed))
    mine = (REVIEWS.c.about == report.report_id, REVIEWS.c.severity < int(severity))
    connection.execute(sa.update(REVIEWS).where(*mine).values(severity=int(severity)))
    return _one(connection, P.report_id == report.report_id)


def put_on_record(connection: sa.Connection, report: Report, complaint: Complaint, who: Who) -> None:
    """The complaint as the audit keeps it; call it last."""
    entry = AuditEntry(
        action="REPORT",
        tenant=report.tenant,
        actor=who.actor,
        user=complaint.reporter,
        trace_id=who.trace_id,
        scores=((complaint.reason.value, 1.0, "REVIEW"),),
        sha256=report.sha256,
        asset_id=report.asset_id,
        note=complaint.statement,
    )
    audit.record(connection, entry)


def review_of_report(report: Report, asset: AssetFacts) -> Review:
    """The item of the queue that stands for the report; its text is what the first reporter says."""
    return Review(
        review_id=derived_id("rev", report.report_id),
        topic=derived_id("top", report.report_id),
        tenant=report.tenant,
        cause=Cause.REPORT,
        severity=report.severity,
        categories=(report.reason,),
        verdict_id=asset.verdict_id,
        asset_id=report.asset_id,
        job_id=asset.job_id,
        about=report.report_id,
        text=": ".join(said for said in (report.reason.value, report.statement) if said),
    )


def by_id(connection: sa.Connection, report_id: str) -> Report:
    """The report, until the commit for this transaction alone."""
    return _one(connection, P.report_id == report_id)


def end(connection: sa.Connection, which: sa.ColumnElement[bool], state: str) -> None:
    """Ends the open reports that `which` selects, so that the next one about the picture opens another."""
    connection.execute(sa.update(REPORTS).where(which, P.state == OPEN).values(state=state, folding=P.report_id))


def uphold(connection: sa.Connection, sha256: str) -> Sequence[str]:
    """The content was taken down: its reports were right. The ids of their reviews, which are to be closed."""
    about = sa.select(P.report_id).where(P.sha256 == sha256, P.state == OPEN)
    waiting = (REVIEWS.c.about.in_(about), REVIEWS.c.state == State.OPEN.value)
    ids = connection.execute(sa.select(REVIEWS.c.review_id).where(*waiting).order_by(REVIEWS.c.review_id))
    reviews = ids.scalars().all()
    end(connection, P.sha256 == sha256, UPHELD)
    return reviews


def _refuse_too_many(connection: sa.Connection, tenant: str, reporter: str, now: int) -> None:
    lately = sa.select(sa.func.count()).select_from(REPORT_VOICES)
    lately = lately.where(V.tenant == tenant, V.create_us > now - HOUR_US)
    if reporter and connection.execute(lately.where(V.reporter == reporter)).scalar_one() >= REPORTER_HOURLY:
        raise ResourceExhausted(f"a reporter may send {REPORTER_HOURLY} reports an hour", retry_after=600.0)
    if connection.execute(lately).scalar_one() >= TENANT_HOURLY:
        raise ResourceExhausted(f"a tenant may send {TENANT_HOURLY} reports an hour", retry_after=60.0)


def _opened(connection: sa.Connection, asset: AssetFacts, complaint: Complaint, now: int) -> Report:
    """The picture's open report, made if there is none; locked until the commit."""
    folding = derived_id("fld", asset.tenant, asset.sha256)
    row = {
        "report_id": new_id("rpt"),
        "folding": folding,
        "tenant": asset.tenant,
        "asset_id": asset.asset_id,
        "sha256": asset.sha256,
        "state": OPEN,
        "severity": int(SEVERITIES[complaint.reason]),
        "reason": complaint.reason.value,
        "statement": storable(complaint.statement),
        "reporter": complaint.reporter,
        "count": 0,
        "create_us": now,
        "due_us": now + DUE_S * 1_000_000,
    }
    insert_or_ignore(connection, REPORTS, row)
    return _one(connection, P.folding == folding)


def _one(connection: sa.Connection, which: sa.ColumnElement[bool]) -> Report:
    return _report(connection.execute(sa.select(REPORTS).where(which).with_for_update()).mappings().one())


def _page(connection: sa.Connection, state: str, after: Place | None, size: int) -> list[Report]:
    query = sa.select(REPORTS).where(P.state == state).order_by(P.severity.desc(), P.create_us, P.report_id).limit(size)
    if after is not None:
        severity, came, report_id = after
        later = sa.or_(P.create_us > came, sa.and_(P.create_us == came, P.report_id > report_id))
        query = query.where(sa.or_(P.severity < severity, sa.and_(P.severity == severity, later)))
    return [_report(row) for row in connection.execute(query).mappings()]


def _report(row: sa.RowMapping) -> Report:
    return Report(**{**row, "severity": Severity(row["severity"]), "reason": Category(row["reason"])})
