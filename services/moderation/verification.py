"""Recomputes the audit's chain from its records and compares it with every copy of its checkpoints.

What each kind of forgery meets:

- a record edited, removed, added or moved: its own digest, its place in the chain, or the sequence after it;
- records rewritten from there to the end, the head's row too: the first checkpoint behind the place that is not the
  forger's own. It cannot be told which record between two checkpoints was changed first, so the answer is the first
  record that no checkpoint vouches for;
- the newest records removed, the head's row set back: the checkpoints beyond the end. Records younger than the newest
  checkpoint, a minute at most, can go unseen;
- the oldest records removed: the chain's beginning must be told by a record of a sweep, and stand at a checkpoint;
- a record emptied: a record of an erasure must tell of it, and tell of as many as are empty.

Who can write to the database can still append: the hashes have no secret. What was appended stays, and names itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mesh.errors import Unavailable
from services.moderation.anchors import Anchor, AnchorName
from services.moderation.audit_store import AuditReader, Head, Row
from services.moderation.chain import emptied, link, personal_digest, record_digest
from services.moderation.checkpoints import Checkpoint

PAGE = 500
ANCHOR_S = 30.0
UNREADABLE = "it holds what cannot be read"
TRIES = 3  # a sweep that runs at the same time moves the chain's beginning


@dataclass(frozen=True)
class Break:
    """The first record that does not fit, and why, for people."""

    sequence: int
    finding: str


@dataclass
class Report:
    """What a verification found. newest: the newest checkpoint that the chain was compared with."""

    checked: int = 0
    broken: Break | None = None
    newest: Checkpoint | None = None
    compared: list[AnchorName] = field(default_factory=list)
    not_compared: list[AnchorName] = field(default_factory=list)

    def seen(self, compared: Sequence[Checkpoint]) -> None:
        """Keeps the newest checkpoint."""
        if compared and (self.newest is None or compared[-1].sequence >= self.newest.sequence):
            self.newest = compared[-1]

    def found(self, broken: Break | None) -> None:
        """Keeps the earliest break."""
        if broken and (self.broken is None or broken.sequence < self.broken.sequence):
            self.broken = broken


@dataclass
class _Emptied:
    """The records that one erasure is to account for: from which sequence to which, how many, of whom."""

    first: int
    last: int = 0
    count: int = 0
    tenants: set[str] = field(default_factory=set)

    def add(self, row: Row) -> None:
        """Counts one more; rows come in order."""
        self.last = row["sequence"]
        self.count += 1
        self.tenants.add(row["tenant"])


class Verification:
    """Verifies the audit in pages. anchors: makes them anew for each run; None for one that is not set up."""

    def __init__(self, reader: AuditReader, anchors: Callable[[], dict[AnchorName, Anchor | None]]) -> None:
        self._reader = reader
        self._anchors = anchors

    async def run(self, first: int = 0) -> Report:
        """Checks the records from `first` on, 0 for all. What is appended meanwhile is left to the next run."""
        for _ in range(TRIES - 1):
            head = await self._reader.head()
            report = await self._once(head, first)
            if report.broken is None or (await self._reader.head()).cut_sequence == head.cut_sequence:
                return report
        return await self._once(await self._reader.head(), first)

    async def _once(self, head: Head, first: int) -> Report:
        report = Report()
        walk = _Walk(self._reader, head)
        await walk.begin(first)
        report.found(await walk.go())
        report.found(await walk.unsaid(report.broken))
        report.checked = walk.checked
        for name, anchor in self._anchors().items():
            compared = anchor is not None and await self._compare(anchor, walk, report)
            (report.compared if compared else report.not_compared).append(name)
        return report

    async def _compare(self, anchor: Anchor, walk: _Walk, report: Report) -> bool:
        try:
            async with asyncio.timeout(ANCHOR_S):
                report.found(await _Comparison(self._reader, walk, anchor.name).go(anchor, report))
        except (Unavailable, TimeoutError):
            return False
        return True


class _Comparison:
    """The chain that was walked beside the checkpoints of one place, from the oldest on. Every one is looked at: when
    new records have grown over a place where others were cut off, only a checkpoint from before tells."""

    def __init__(self, reader: AuditReader, walk: _Walk, name: AnchorName) -> None:
        self._reader = reader
        self._walk = walk
        self._name = name.lower()
        self._vouched = walk.started_after
        self._cut_known: bool | None = (
            None  # whether the chain's beginning is one of them; None while all lie behind it
        )

    async def go(self, anchor: Anchor, report: Report) -> Break | None:
        """The first record that no checkpoint vouches for, if any contradicts."""
        async for page in anchor.pages():
            reached = [found for found in page if self._walk.started_after <= found.sequence <= self._walk.reached]
            chains = await self._reader.chains(found.sequence for found in reached)
            chains.setdefault(self._walk.head.cut_sequence, self._walk.head.cut_chain)
            for checkpoint in page:
                broken = self._finding(checkpoint, chains.get(checkpoint.sequence, ""))
                if broken:
                    return broken
            report.seen(reached)
        return self._unknown_cut() if anchor.name is not AnchorName.EVENT else None

    def _finding(self, checkpoint: Checkpoint, ours: str) -> Break | None:
        place, last = checkpoint.sequence, self._walk.head.sequence
        self._look_for_cut(place)
        if place > last:
            return Break(last + 1, f"records are missing at the end: there is a checkpoint at {place} ({self._name})")
        if not self._walk.started_after <= place <= self._walk.reached:
            return None
        if checkpoint.chain != ours:
            return Break(self._vouched + 1, f"the chain is another one than at checkpoint {place} ({self._name})")
        self._vouched = place
        return None

    def _look_for_cut(self, place: int) -> None:
        if place <= self._walk.head.cut_sequence:
            self._cut_known = place == self._walk.head.cut_sequence

    def _unknown_cut(self) -> Break | None:
        """Where records were removed must be a checkpoint; a place that was set up later does not know it."""
        cut = self._walk.head.cut_sequence
        if cut == 0 or self._cut_known is not False:
            return None
        return Break(cut + 1, f"records were removed up to {cut}, which is no checkpoint ({self._name})")


class _Walk:
    """One pass over the records, from the chain's beginning to its head as it was when the pass began."""

    def __init__(self, reader: AuditReader, head: Head) -> None:
        self._reader = reader
        self.head = head
        self.started_after = self.reached = head.cut_sequence
        self._chain = head.cut_chain
        self.checked = 0
        self._emptied: dict[int, _Emptied] = {}  # by the record that is to tell of them

    async def begin(self, first: int) -> None:
        """Finds where to begin."""
        if first - 1 > self.head.cut_sequence:
            before = await self._reader.span(first - 2, first - 1, 1)
            if before:
                self.started_after, self._chain = first - 1, before[0]["chain"]
            self.reached = self.started_after

    async def go(self) -> Break | None:
        """The first record that does not fit."""
        size = PAGE
        while self.reached < self.head.sequence:
            try:
                page = await self._reader.span(self.reached, self.head.sequence, size)
            except ValueError:  # a column holds what it cannot hold; one by one, to find where
                if size == 1:
                    return Break(self.reached + 1, UNREADABLE)
                size = 1
                continue
            broken = await asyncio.to_thread(self._check, page)
            if broken or not page:
                return broken or Break(self.reached + 1, "records are missing at the end")
        return self._unlike_head()

    def _unlike_head(self) -> Break | None:
        if self._chain != self.head.chain:
            return Break(max(self.reached, 1), "the head's row has another chain than its record")
        if self.head.last > self.head.sequence:
            return Break(self.head.sequence + 1, "it stands behind the chain's head")
        return None

    def _check(self, page: Sequence[Row]) -> Break | None:
        for row in page:
            try:
                finding = self._finding(row)
            except (TypeError, ValueError):  # what is no hash, or no number
                finding = UNREADABLE
            if finding:
                return Break(self.reached + 1, finding)
            if row["erased_by"]:
                self._emptied.setdefault(row["erased_by"], _Emptied(row["sequence"])).add(row)
            self.reached, self._chain = row["sequence"], row["chain"]
            self.checked += 1
        return None

    def _finding(self, row: Row) -> str:
        if row["sequence"] != self.reached + 1:
            return f"it is missing; the next one is {row['sequence']}"
        if not row["erased_by"] and personal_digest(row) != row["personal"]:
            return "its user, text or note was changed"
        if record_digest(row) != row["digest"]:
            return "it was changed"
        if link(self._chain, row["digest"]) != row["chain"]:
            return "it does not follow the one before it"
        if row["erased_by"] and any(row[name] != value for name, value in emptied(row).items()):
            return "it was emptied in another way than an erasure does it"
        return ""

    async def unsaid(self, broken: Break | None) -> Break | None:
        """The first record that is missing or empty without a record that says so. What is told by a record that
        `broken` is about, or that is gone behind it, is not held against others."""
        asked = sorted({*self._emptied, self.head.cut_by} - ({broken.sequence} if broken else set()))
        findings = []
        for first in range(0, len(asked), PAGE):
            batch = asked[first : first + PAGE]
            tellers = await self._reader.named(batch)
            known = [by for by in batch if by in tellers or broken is None or by < broken.sequence]
            findings += [self._unsaid(by, tellers.get(by)) for by in known]
        return min((found for found in findings if found), key=lambda found: found.sequence, default=None)

    def _unsaid(self, by: int, teller: Row | None) -> Break | None:
        cut = _unsaid_cut(self.head.cut_sequence, teller) if by == self.head.cut_by else None
        return cut or (_unsaid_erasure(self._emptied[by], teller) if by in self._emptied else None)


def _unsaid_cut(cut: int, teller: Row | None) -> Break | None:
    """The chain's beginning must be told by the record of a sweep."""
    said = teller["length"] if teller and teller["action"] == "SWEPT" else 0
    if said == cut:
        return None
    return Break(said + 1, f"records up to {cut} are missing and no record of a sweep says so")


def _unsaid_erasure(emptied_rows: _Emptied, teller: Row | None) -> Break | None:
    """A record of an erasure stands behind what it emptied, is of the same tenant, and counts as many."""
    if teller is None or teller["action"] != "ERASED" or teller["sequence"] < emptied_rows.last:
        return Break(emptied_rows.first, "it was emptied and no record of an erasure says so")
    if teller["tenant"] and emptied_rows.tenants != {teller["tenant"]}:
        return Break(emptied_rows.first, "it was emptied by an erasure of another tenant")
    if emptied_rows.count > teller["length"]:
        return Break(emptied_rows.last, f"more records were emptied than record {teller['sequence']} says")
    return None
