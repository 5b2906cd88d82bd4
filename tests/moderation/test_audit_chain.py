"""What the audit promises: whoever touches it is found out, erasure leaves it valid, retention cuts at checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from mesh.db import DatabaseConfig, open_database
from mesh.events import Bus, BusConfig
from mesh.outbox import Relay
from services.moderation.anchors import AnchorName
from services.moderation.audit import record
from services.moderation.audit_tables import AUDIT_CHECKPOINTS
from services.moderation.policy_changes import Who
from services.moderation.retention import Retention
from services.moderation.tables import OUTBOX
from services.moderation.verification import PAGE
from tests.conftest import NatsServer
from tests.moderation.audit_rig import Rig, entry, rig


@pytest.fixture
async def audit(tmp_path: Path) -> AsyncIterator[Rig]:
    """Ten records, checkpoints at 4 and 8."""
    async with rig(f"sqlite:///{tmp_path / 'truth.db'}", tmp_path / "checkpoints") as made:
        for count in (4, 4, 2):
            if await made.rows():
                await made.checkpoint()
            await made.append(count)
        yield made


@pytest.fixture
async def audit_on_each(database_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(database_url, tmp_path / "checkpoints") as made:
        yield made


async def test_an_untouched_audit_is_intact(audit: Rig) -> None:
    report = await audit.verify()
    assert report.broken is None
    assert report.checked == 10
    assert report.newest is not None
    assert report.newest.sequence == 8
    assert report.compared == [AnchorName.TABLE, AnchorName.OBJECT]
    assert report.not_compared == [AnchorName.EVENT]  # NATS is away


async def test_an_empty_audit_is_intact(audit_on_each: Rig) -> None:
    report = await audit_on_each.verify()
    assert (report.broken, report.checked) == (None, 0)


SWAP = "UPDATE audit_records SET sequence = CASE sequence WHEN 5 THEN -5 WHEN 6 THEN -6 ELSE sequence END"
SWAPPED = "UPDATE audit_records SET sequence = CASE sequence WHEN -5 THEN 6 WHEN -6 THEN 5 ELSE sequence END"
CHAIN = "SELECT chain FROM audit_records WHERE sequence ="
EMPTY = "end_user = '', text = '', note = '', sha256 = '', salt = ''"
TAMPERING = {
    "decision": (["UPDATE audit_records SET decision = 'ALLOW' WHERE sequence = 5"], 5),
    "score": (["""UPDATE audit_records SET scores = '[["VIOLENCE", 0.1, "ALLOW"]]' WHERE sequence = 5"""], 5),
    "time": (["UPDATE audit_records SET create_us = create_us + 1 WHERE sequence = 5"], 5),
    "user": (["UPDATE audit_records SET end_user = 'bob' WHERE sequence = 5"], 5),
    "text": (["UPDATE audit_records SET text = 'a cat' WHERE sequence = 5"], 5),
    "note": (["UPDATE audit_records SET note = '' WHERE sequence = 5"], 5),
    "salt": (["UPDATE audit_records SET salt = '' WHERE sequence = 5"], 5),
    "no json": (["UPDATE audit_records SET scores = '[' WHERE sequence = 5"], 5),
    "no hash": (["UPDATE audit_records SET digest = 'x' WHERE sequence = 5"], 5),
    "no text": (["UPDATE audit_records SET text = x'ff00' WHERE sequence = 5"], 5),
    "deleted": (["DELETE FROM audit_records WHERE sequence = 5"], 5),
    "first deleted": (["DELETE FROM audit_records WHERE sequence = 1"], 1),
    "last deleted": (["DELETE FROM audit_records WHERE sequence = 10"], 10),
    "all deleted": (["DELETE FROM audit_records"], 1),
    "reordered": ([SWAP, SWAPPED], 5),
    "renumbered": (
        [
            "DELETE FROM audit_records WHERE sequence = 5",
            "UPDATE audit_records SET sequence = -sequence WHERE sequence > 5",
            "UPDATE audit_records SET sequence = -sequence - 1 WHERE sequence < 0",
        ],
        5,
    ),
    "doubled": (
        [
            "CREATE TABLE copy AS SELECT * FROM audit_records WHERE sequence = 10",
            "UPDATE copy SET sequence = 11",
            "INSERT INTO audit_records SELECT * FROM copy",
        ],
        11,
    ),
    "head": (["UPDATE audit_head SET chain = '00'"], 10),
    "head removed": (["DELETE FROM audit_head"], 10),
    "head set back": ([f"UPDATE audit_head SET sequence = 9, chain = ({CHAIN} 9)"], 10),
    "emptied": ([f"UPDATE audit_records SET {EMPTY} WHERE sequence = 5"], 5),
    "emptied by nobody": ([f"UPDATE audit_records SET {EMPTY}, erased_by = 7 WHERE sequence = 5"], 5),
    "unsaid cut": (
        [
            f"UPDATE audit_head SET cut_sequence = 4, cut_chain = ({CHAIN} 4)",
            "DELETE FROM audit_records WHERE sequence <= 4",
        ],
        1,
    ),
}


@pytest.mark.parametrize("name", TAMPERING)
async def test_tampering_is_found_where_it_was_done(audit: Rig, name: str) -> None:
    statements, place = TAMPERING[name]
    await audit.sql(*statements)
    assert await audit.broken() == place


async def test_an_edit_with_a_new_digest_is_found_at_the_record(audit: Rig) -> None:
    await audit.sql("UPDATE audit_records SET decision = 'ALLOW' WHERE sequence = 5")
    chains = {row["sequence"]: row["chain"] for row in await audit.rows()}
    await audit.rewrite(5)
    for sequence, chain in chains.items():
        await audit.sql(f"UPDATE audit_records SET chain = '{chain}' WHERE sequence = {sequence}")
    assert await audit.broken() == 5


@pytest.mark.parametrize(("edited", "vouched"), [(3, 0), (4, 0), (5, 4), (8, 4)])
async def test_a_chain_rewritten_to_its_head_is_found_back_to_the_checkpoint(
    audit: Rig, edited: int, vouched: int
) -> None:
    await audit.sql(f"UPDATE audit_records SET decision = 'ALLOW' WHERE sequence = {edited}")
    await audit.rewrite(2 if edited == 1 else edited)
    assert await audit.broken() == vouched + 1


async def test_rewriting_the_table_of_checkpoints_too_is_found_by_the_objects(audit: Rig) -> None:
    await audit.sql("UPDATE audit_records SET decision = 'ALLOW' WHERE sequence = 6")
    await audit.rewrite(6)
    chain = "SELECT chain FROM audit_records r WHERE r.sequence = audit_checkpoints.sequence"
    await audit.sql(f"UPDATE audit_checkpoints SET chain = ({chain})")
    report = await audit.verify()
    assert report.broken is not None
    assert report.broken.sequence == 5
    assert "object" in report.broken.finding


CUT_TAIL = (
    "DELETE FROM audit_records WHERE sequence > 6",
    f"UPDATE audit_head SET sequence = 6, chain = ({CHAIN} 6)",
)


async def test_a_cut_tail_is_found_by_the_checkpoints(audit: Rig) -> None:
    await audit.sql(*CUT_TAIL)
    assert await audit.broken() == 7


async def test_a_cut_tail_with_its_checkpoints_is_found_by_the_objects(audit: Rig) -> None:
    await audit.sql(*CUT_TAIL, "DELETE FROM audit_checkpoints WHERE sequence > 6")
    assert await audit.broken() == 7


async def test_a_cut_tail_stays_found_when_new_records_grow_over_it(audit: Rig) -> None:
    await audit.sql(*CUT_TAIL, "DELETE FROM audit_checkpoints WHERE sequence > 6")
    await audit.append(10)
    await audit.checkpoint()
    assert await audit.broken() == 5


async def test_the_event_finds_what_no_other_copy_is_left_for(tmp_path: Path, nats_server: NatsServer) -> None:
    bus = Bus(BusConfig(nats_server.url, "tests"))
    await bus.start()
    async with rig(f"sqlite:///{tmp_path / 'truth.db'}", tmp_path / "checkpoints", bus) as audit:
        await audit.append(5)
        await audit.checkpoint()
        relay = Relay(audit.database, OUTBOX, bus)
        await relay.start()
        async with asyncio.timeout(20):
            while await audit.database.read(lambda c: c.execute(sa.select(OUTBOX.c.seq)).all()):
                await asyncio.sleep(0.01)
        await relay.stop()
        report = await audit.verify()
        assert (report.broken, report.compared) == (None, list(AnchorName))
        for path in audit.folder.iterdir():
            path.unlink()
        await audit.sql("DELETE FROM audit_checkpoints", "DELETE FROM audit_records WHERE sequence > 3")
        await audit.sql(
            "UPDATE audit_head SET sequence = 3, chain = (SELECT chain FROM audit_records WHERE sequence = 3)"
        )
        assert await audit.broken() == 4
    await bus.stop()


async def test_verifying_may_begin_anywhere(audit: Rig) -> None:
    await audit.sql("UPDATE audit_records SET decision = 'ALLOW' WHERE sequence = 3")
    report = await audit.verify(6)
    assert (report.broken, report.checked) == (None, 5)
    assert (await audit.verify(3)).broken is not None


async def test_an_audit_of_several_pages_is_walked_whole(audit: Rig) -> None:
    await audit.database.write(lambda c: [record(c, entry(n)) for n in range(PAGE * 2)])
    assert (await audit.verify()).checked == 10 + PAGE * 2
    await audit.sql(f"DELETE FROM audit_records WHERE sequence = {PAGE + 7}")
    assert await audit.broken() == PAGE + 7


async def test_erasure_takes_what_is_personal_and_leaves_the_chain(audit_on_each: Rig) -> None:
    audit = audit_on_each
    await audit.append(3)
    await audit.append(2, "bob")
    await audit.checkpoint()
    before = {row["sequence"]: row for row in await audit.rows()}
    assert await audit.erase() == 3
    assert await audit.broken() == 0
    rows = {row["sequence"]: row for row in await audit.rows()}
    for sequence in (1, 2, 3):
        gone = {"end_user": "", "text": "", "note": "", "sha256": "", "salt": "", "erased_by": 6}
        assert rows[sequence] == before[sequence] | gone
    assert rows[4] == before[4]
    told = rows[6]
    assert (told["action"], told["length"], told["actor"], told["tenant"]) == ("ERASED", 3, "operator", "acme")
    assert "ann" not in str(rows)
    assert await audit.erase() == 0


async def test_the_hash_of_a_picture_survives_erasure(audit: Rig) -> None:
    picture = entry(11)
    await audit.database.write(lambda c: record(c, type(picture)(**{**vars(picture), "asset_id": "ast_1"})))
    await audit.erase()
    assert (await audit.rows())[10]["sha256"] == f"{11:064x}"
    assert await audit.broken() == 0


async def test_facts_are_still_guarded_after_erasure(audit: Rig) -> None:
    await audit.erase()
    await audit.sql("UPDATE audit_records SET decision = 'ALLOW' WHERE sequence = 5")
    assert await audit.broken() == 5


async def test_more_emptied_records_than_the_erasure_told_of_are_found(audit: Rig) -> None:
    await audit.append(1, "bob")
    await audit.erase()
    blank = "end_user='', text='', note='', sha256='', salt='', erased_by=12"
    await audit.sql(f"UPDATE audit_records SET {blank} WHERE sequence = 11")
    assert await audit.broken() == 11


async def test_what_an_erasure_emptied_cannot_be_filled_again(audit: Rig) -> None:
    await audit.erase()
    await audit.sql("UPDATE audit_records SET text = 'something nasty' WHERE sequence = 5")
    assert await audit.broken() == 5


async def test_a_text_with_what_a_database_cannot_keep_is_recorded(audit_on_each: Rig) -> None:
    odd = type(entry(1))(action="PROMPT_JUDGED", tenant="acme", actor="key_1", text="a\0b \ud800 c", user="\0")
    await audit_on_each.database.write(lambda c: record(c, odd))
    assert await audit_on_each.broken() == 0


async def test_concurrent_appends_make_one_chain_without_gaps(audit_on_each: Rig) -> None:
    audit = audit_on_each

    async def append(number: int) -> None:
        def work(connection: sa.Connection) -> None:
            record(connection, entry(number))
            if number % 5 == 0:
                raise LookupError

        await audit.database.write(work)

    done = await asyncio.gather(*map(append, range(60)), return_exceptions=True)
    assert sum(isinstance(found, LookupError) for found in done) == 12
    assert [row["sequence"] for row in await audit.rows()] == list(range(1, 49))
    assert await audit.broken() == 0


async def test_two_processes_append_to_one_chain(database_url: str, tmp_path: Path) -> None:
    async with rig(database_url, tmp_path / "checkpoints") as one:
        other = open_database(DatabaseConfig(database_url))
        writes = [base.write(lambda c, n=n: record(c, entry(n))) for n in range(20) for base in (one.database, other)]
        checkpoints = [one.checkpoint() for _ in range(5)]
        await asyncio.gather(*writes, *checkpoints)
        assert [row["sequence"] for row in await one.rows()] == list(range(1, 41))
        assert await one.broken() == 0
        await other.close()


async def test_a_checkpoint_is_made_only_when_the_head_moved(audit: Rig) -> None:
    for _ in range(3):
        await audit.checkpoint()
    assert [found.sequence for found in await audit.reader.checkpoints(0, 10)] == [4, 8, 10]
    assert await audit.stored() == [4, 8, 10]


async def test_a_store_that_was_away_gets_its_checkpoints_later(audit: Rig) -> None:
    audit.folder.chmod(0o755)
    away = audit.folder.rename(audit.folder.with_name("away"))
    audit.folder.write_text("not a folder")
    await audit.append()
    with pytest.raises(Exception, match="folder of checkpoints failed"):
        await audit.checkpoint()
    report = await audit.verify()
    assert (report.broken, report.compared) == (None, [AnchorName.TABLE])
    audit.folder.unlink()
    away.rename(audit.folder)
    await audit.checkpoint()
    assert await audit.stored() == [4, 8, 11]
    unstored = sa.select(AUDIT_CHECKPOINTS.c.sequence).where(AUDIT_CHECKPOINTS.c.stored == 0)
    assert await audit.database.read(lambda c: c.execute(unstored).all()) == []


async def test_retention_cuts_at_the_newest_checkpoint_that_is_old_enough(audit_on_each: Rig) -> None:
    audit = audit_on_each
    for count in (3, 3, 3):
        await audit.append(count)
        await audit.checkpoint()
    assert await audit.audit.sweeper.sweep() == 0
    await audit.age(366, upto=6)
    assert await audit.audit.sweeper.sweep() == 6
    rows = await audit.rows()
    assert [row["sequence"] for row in rows] == [7, 8, 9, *range(10, rows[-1]["sequence"] + 1)]
    assert (rows[-1]["action"], rows[-1]["length"]) == ("SWEPT", 6)
    assert await audit.stored() == [6, 9]
    assert await audit.broken() == 0
    assert await audit.audit.sweeper.sweep() == 6


async def test_what_a_sweep_left_is_still_guarded(audit: Rig) -> None:
    await audit.age(366, upto=4)
    assert await audit.audit.sweeper.sweep() == 4
    assert await audit.broken() == 0
    await audit.sql("DELETE FROM audit_records WHERE sequence IN (5, 6)")
    assert await audit.broken() == 5
    await audit.sql("UPDATE audit_head SET cut_sequence = 6, cut_chain = 'aa'")
    assert await audit.broken() == 5


async def test_a_cut_beside_a_checkpoint_is_found(audit: Rig) -> None:
    from services.moderation.audit import AuditEntry

    await audit.database.write(lambda c: record(c, AuditEntry("SWEPT", "", "retention", length=5)))
    chain = "(SELECT chain FROM audit_records WHERE sequence = 5)"
    await audit.sql(f"UPDATE audit_head SET cut_sequence = 5, cut_chain = {chain}, cut_by = 11")
    await audit.sql("DELETE FROM audit_records WHERE sequence <= 5")
    await audit.sql("DELETE FROM audit_checkpoints WHERE sequence <= 5")
    assert await audit.broken() == 6


async def test_a_tenants_shorter_retention_empties_its_records_first(audit: Rig) -> None:
    await audit.database.write(lambda c: record(c, entry(11, tenant="brief")))
    await audit.checkpoint()
    audit.days = Retention(365, {"brief": 30})
    await audit.age(31, upto=11)
    assert await audit.audit.sweeper.sweep() == 0
    rows = {row["sequence"]: row for row in await audit.rows()}
    assert (rows[11]["text"], rows[11]["end_user"], rows[11]["erased_by"]) == ("", "", 12)
    assert rows[10]["text"]
    assert await audit.broken() == 0


async def test_a_verification_during_a_sweep_is_right(audit: Rig) -> None:
    await audit.age(366, upto=8)
    reports = await asyncio.gather(*(audit.verify() for _ in range(5)), audit.audit.sweeper.sweep())
    assert [report.broken for report in reports[:5]] == [None] * 5


async def test_the_default_retention_may_be_the_shorter_one(audit: Rig) -> None:
    await audit.database.write(lambda c: record(c, entry(11, tenant="archive")))
    await audit.checkpoint()
    audit.days = Retention(30, {"archive": 365})
    await audit.age(31, upto=11)
    assert await audit.audit.sweeper.sweep() == 0
    assert [row["sequence"] for row in await audit.rows() if row["text"]] == [11]
    assert await audit.broken() == 0


async def test_an_erasure_of_another_tenant_accounts_for_nothing(audit: Rig) -> None:
    await audit.database.write(lambda c: record(c, entry(11, tenant="other")))
    await audit.audit.erasure.user("other", "ann", Who("operator", ""))
    await audit.sql(f"UPDATE audit_records SET {EMPTY}, erased_by = 12 WHERE sequence = 5")
    assert await audit.broken() == 5
