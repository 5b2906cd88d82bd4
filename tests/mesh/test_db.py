"""The SQL port, on SQLite and PostgreSQL alike."""

import asyncio
import time
from collections.abc import AsyncIterator

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
