"""The schema: migrations, tables and the columns that statements name agree."""

import asyncio
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from sensors.batch import SeenObject
from tests.support.postgres import fresh_database, running_server
from tidegate.store import (
    rows,
    sql_actions,
    sql_alerts,
    sql_claim,
    sql_dispatch,
    sql_events,
    sql_prune,
    sql_replays,
    sql_rounds,
    sql_runs,
)
from tidegate.store.factory import open_store
from tidegate.store.migrate import HEAD, head_sql, is_current, upgrade_sqlite
from tidegate.store.session import Bulk
from tidegate.store.tx import StoreError


def differences(engine: Any) -> list[Any]:
    """Compare a migrated database with the tables, by Alembic's own eyes."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from tidegate.store.schema import metadata

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))


def shape(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the text of every table and index, without spaces and quotes."""
    found = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'"
    )
    return {name: re.sub(r'[\s"]+', "", sql) for name, sql in found}


def test_migrations_make_the_tables_on_sqlite(tmp_path: Path) -> None:
    """A migrated file has, to the letter, the tables and indexes that the metadata would create."""
    from sqlalchemy import create_engine

    from tidegate.store.schema import metadata

    plain = create_engine(f"sqlite:///{tmp_path / 'b.db'}")
    metadata.create_all(plain)
    plain.dispose()
    migrated, direct = (sqlite3.connect(tmp_path / name, isolation_level=None) for name in ("a.db", "b.db"))
    upgrade_sqlite(migrated)
    upgrade_sqlite(migrated)
    shapes = shape(migrated), shape(direct)
    migrated.close()
    direct.close()

    assert shapes[0] == shapes[1]


def test_a_new_file_gets_what_the_migrations_make() -> None:
    """The written-out schema is what all migrations make; `python -m tidegate.store.migrate` writes it anew."""
    import tidegate.store.migrate as module

    written = Path(module.__file__).with_name("migrations") / "head.sqlite.sql"
    assert written.read_text() == head_sql()


async def test_a_file_of_an_older_version_is_migrated(tmp_path: Path) -> None:
    """A file that has tables but not our version is brought to it when it is opened."""
    raw = sqlite3.connect(tmp_path / "old.db")
    raw.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    raw.commit()
    raw.close()
    store = open_store(f"sqlite:///{tmp_path / 'old.db'}", shard="one")
    await store.open()
    queue = await store.read(lambda reader: reader.queue())
    await store.close()

    assert queue == {}


async def test_a_file_of_the_first_version_keeps_what_is_in_it(tmp_path: Path) -> None:
    """A file of version 1 gets what version 2 adds when it is opened, and loses nothing."""
    raw = sqlite3.connect(tmp_path / "old.db", isolation_level=None)
    upgrade_sqlite(raw, "0001")
    raw.execute("INSERT INTO seen_objects VALUES ('s', 'a', 't', 0, 'present', 1, 2, '')")
    tables = {name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    raw.close()
    store = open_store(f"sqlite:///{tmp_path / 'old.db'}", shard="one")
    await store.open()
    seen = await store.read(lambda reader: reader.seen_range("s", "", None, 9))
    open_actions = await store.read(lambda reader: reader.open_actions("s", ["a"]))
    await store.close()

    assert "object_actions" not in tables
    assert list(seen) == [SeenObject("a", "t", 0, "present", 1, 2)]
    assert open_actions == {}


@pytest.mark.postgres
@pytest.mark.integration
async def test_migrations_make_the_tables_on_postgresql() -> None:
    """A migrated database differs in nothing from the metadata."""
    import psycopg
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    def compare() -> list[Any]:
        with running_server() as server, fresh_database(server) as url:
            engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
            return differences(engine)

    assert await asyncio.to_thread(compare) == []


def test_the_head_is_the_newest_migration() -> None:
    """The version that the service asks for is the one that the migrations end at."""
    from alembic.script import ScriptDirectory

    import tidegate.store.migrate as module

    folder = Path(module.__file__).with_name("migrations")
    assert ScriptDirectory(str(folder)).get_heads() == [HEAD]


@pytest.mark.parametrize(
    ("version", "current"), [(None, False), ("", False), ("0000", False), (HEAD, True), (f"{int(HEAD) + 1:04}", True)]
)
def test_the_next_version_is_current_too(version: str | None, current: bool) -> None:
    """A service runs on its own schema and on the next one, so that replicas can be replaced one by one."""
    assert is_current(version) is current


def test_a_version_too_far_ahead_is_refused() -> None:
    """Two versions ahead is too far."""
    with pytest.raises(StoreError, match="newer service"):
        is_current(f"{int(HEAD) + 2:04}")


STATEMENTS = [
    (f"{module.__name__}.{name}", value)
    for module in (
        sql_actions,
        sql_alerts,
        sql_claim,
        sql_dispatch,
        sql_events,
        sql_prune,
        sql_replays,
        sql_rounds,
        sql_runs,
    )
    for name, value in vars(module).items()
    if isinstance(value, Bulk)
]


@pytest.mark.parametrize(("name", "statement"), STATEMENTS, ids=[name for name, _ in STATEMENTS])
def test_statements_name_columns_that_exist(name: str, statement: Bulk) -> None:
    """Every bulk statement names columns of its table, with their types."""
    from sqlalchemy import BigInteger, Float, LargeBinary, Text

    from tidegate.store.schema import metadata

    table = metadata.tables[re.match(r"(?:INSERT INTO|UPDATE) (\w+)", statement.body)[1]]  # type: ignore[index]
    kinds: dict[str, type] = {"t": Text, "i": BigInteger, "f": Float, "b": LargeBinary}
    for column, kind in zip(statement.names, statement.types, strict=True):
        assert isinstance(table.c[column].type, kinds[kind]), f"{name}: {column}"


def test_rows_cover_their_tables() -> None:
    """What is read back as a value covers every column of its table but sequence numbers."""
    from tidegate.store.schema import metadata

    for table, columns in (
        ("events", rows.EVENT),
        ("runs", rows.RUN),
        ("task_runs", rows.TASK),
        ("decisions", rows.DECISION),
        ("rounds", sql_rounds.ROUND),
    ):
        assert set(rows.names(columns).split(", ")) == set(metadata.tables[table].c.keys()) - {"seq"}
