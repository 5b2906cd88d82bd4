"""The SQL port, on SQLite and PostgreSQL alike."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa

from mesh.db import Database, DatabaseConfig, insert_or_ignore, now_us, open_database
from mesh.errors import Unavailable

METADATA = sa.MetaData()
ROWS = sa.Table("rows", METADATA, sa.Column("id", sa.String(32), primary_key=True), sa.Column("n", sa.BigInteger))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = open_database(DatabaseConfig(database_url))
    await database.write(METADATA.create_all)
    yield database
    await database.close()


def insert(key: str, n: int = 0) -> "sa.Insert":
    return sa.insert(ROWS).values(id=key, n=n)


async def count(database: Database) -> int:
    return await database.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(ROWS)).scalar_one())


async def test_one_callers_error_rolls_back_only_that_caller(database: Database) -> None:
    await database.write(lambda c: c.execute(insert("taken")))

    def half_then_clash(connection: sa.Connection) -> None:
        connection.execute(insert("half"))
        connection.execute(insert("taken"))

    writes = [database.write(lambda c, k=f"k{i}": c.execute(insert(k))) for i in range(20)]
    clash, *rest = await asyncio.gather(database.write(half_then_clash), *writes, return_exceptions=True)
    assert isinstance(clash, sa.exc.IntegrityError)
    assert not [r for r in rest if isinstance(r, BaseException)]
    assert await count(database) == 21


async def test_brief_work_and_long_work_share_transactions_and_fail_alone(database: Database) -> None:
    await database.write(lambda c: c.execute(insert("taken")), brief=True)

    def clash(connection: sa.Connection) -> None:
        connection.execute(insert("half"))
        connection.execute(insert("taken"))

    alone = await asyncio.gather(database.write(clash, brief=True), return_exceptions=True)
    writes = [database.write(lambda c, k=f"k{i}": c.execute(insert(k)), brief=i % 2 == 0) for i in range(20)]
    beside, *rest = await asyncio.gather(database.write(clash, brief=True), *writes, return_exceptions=True)
    assert isinstance(alone[0], sa.exc.IntegrityError)
    assert isinstance(beside, sa.exc.IntegrityError)
    assert not [r for r in rest if isinstance(r, BaseException)]
    assert await database.read(lambda c: len(c.execute(sa.select(ROWS)).all()), brief=True) == 21


async def test_who_writes_in_another_process_is_waited_for_without_holding_up_anybody(tmp_path: Path) -> None:
    file = tmp_path / "truth.db"
    database = open_database(DatabaseConfig(f"sqlite:///{file}"))
    await database.write(METADATA.create_all)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    write = asyncio.ensure_future(database.write(lambda c: c.execute(insert("late")), brief=True))
    for _ in range(20):  # the loop goes round, and reads are answered
        assert await database.read(lambda c: c.execute(sa.select(ROWS)).all(), brief=True) == []
    assert not write.done()
    other.execute("COMMIT")
    other.close()
    await write
    assert await count(database) == 1
    await database.close()


async def test_a_full_disk_fails_the_write_and_nothing_else(tmp_path: Path) -> None:
    database = open_database(DatabaseConfig(f"sqlite:///{tmp_path / 'truth.db'}"))
    await database.write(METADATA.create_all)
    big = sa.insert(ROWS).values(id=sa.func.hex(sa.func.zeroblob(5_000_000)), n=0)

    def fill(connection: sa.Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count=20")
        connection.execute(big)

    refused = await asyncio.gather(database.write(fill, brief=True), return_exceptions=True)
    both = await asyncio.gather(
        database.write(fill, brief=True), database.write(lambda c: c.execute(insert("x"))), return_exceptions=True
    )
    assert isinstance(refused[0], sa.exc.OperationalError)
    assert isinstance(both[0], Unavailable | sa.exc.OperationalError)
    await database.write(lambda c: c.execute(insert("y")), brief=True)
    assert await database.read(lambda c: c.execute(sa.select(ROWS.c.id).where(ROWS.c.id == "y")).scalar_one()) == "y"
    await database.close()


async def test_conditional_updates_never_pass_their_bound(database: Database) -> None:
    await database.write(lambda c: c.execute(insert("cap", 0)))
    step = sa.update(ROWS).where(ROWS.c.id == "cap", ROWS.c.n + 1 <= 10).values(n=ROWS.c.n + 1)
    taken = await asyncio.gather(*(database.write(lambda c: c.execute(step).rowcount) for _ in range(40)))
    assert sum(taken) == 10


async def test_insert_or_ignore_tells_who_was_first(database: Database) -> None:
    first = await asyncio.gather(
        *(database.write(lambda c: insert_or_ignore(c, ROWS, {"id": "a", "n": 1})) for _ in range(10))
    )
    assert sorted(first) == [False] * 9 + [True]


async def test_clock_is_the_databases(database: Database) -> None:
    seen = await database.read(lambda c: c.execute(sa.select(now_us())).scalar_one())
    assert abs(seen - time.time_ns() // 1000) < 5_000_000


async def test_a_canceled_caller_does_not_stop_the_others(database: Database) -> None:
    canceled = asyncio.ensure_future(database.write(lambda c: c.execute(insert("x"))))
    other = asyncio.ensure_future(database.write(lambda c: c.execute(insert("y"))))
    await asyncio.sleep(0)
    canceled.cancel()
    await other
    assert await database.read(lambda c: c.execute(sa.select(ROWS.c.id).where(ROWS.c.id == "y")).scalar_one()) == "y"


async def test_ping_answers(database: Database) -> None:
    await database.ping()


async def test_a_restarted_postgres_is_unavailable_and_then_back(postgres_url: str) -> None:
    database = open_database(DatabaseConfig(postgres_url, pool_size=1))
    other = open_database(DatabaseConfig(postgres_url, pool_size=1))
    await other.ping()
    end_others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    with pytest.raises(Unavailable):
        await database.write(lambda c: c.execute(sa.text(end_others)).all())
    await other.ping()
    await database.ping()
    await database.close()
    await other.close()


async def test_a_deadlock_on_postgres_is_repeated(postgres_url: str) -> None:
    database = open_database(DatabaseConfig(postgres_url))
    await database.write(METADATA.create_all)
    await database.write(lambda c: c.execute(sa.insert(ROWS), [{"id": "a", "n": 0}, {"id": "b", "n": 0}]))

    def both(order: tuple[str, str]) -> object:
        def work(connection: sa.Connection) -> None:
            for key in order:
                connection.execute(sa.update(ROWS).where(ROWS.c.id == key).values(n=ROWS.c.n + 1))
                connection.execute(sa.text("SELECT pg_sleep(0.05)"))

        return database.write(work)

    await asyncio.gather(both(("a", "b")), both(("b", "a")))
    assert await database.read(lambda c: c.execute(sa.select(sa.func.min(ROWS.c.n))).scalar_one()) == 2
    await database.close()


async def test_an_errors_text_holds_no_values(database: Database) -> None:
    await database.write(lambda c: c.execute(insert("taken")))
    with pytest.raises(sa.exc.IntegrityError) as caught:
        await database.write(lambda c: c.execute(insert("taken"), {"n": 77123}))
    assert "parameters hidden" in str(caught.value)
    assert "77123" not in str(caught.value)


@pytest.mark.parametrize("refusal", [asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError])
async def test_a_server_that_takes_no_connection_is_unavailable(
    refusal: type[asyncpg.PostgresError], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise refusal("the database system is starting up")

    monkeypatch.setattr(asyncpg, "connect", refuse)
    database = open_database(DatabaseConfig("postgresql+asyncpg://nobody@localhost/nowhere"))
    with pytest.raises(Unavailable):
        await database.ping()
    await database.close()
