"""The `sql` sensor on SQLite: the same promises over a file that others write."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sensors.errors import NotConnected
from tests.support.databases import Watch, data

Watches = Callable[..., Watch]
TABLE = "create table orders (id integer primary key, what text, updated_at text not null)"
OPTIONS: dict[str, Any] = {
    "url": "sqlite:///shop.db",
    "table": "orders",
    "key": "id",
    "high": "updated_at",
    "start": "beginning",
}


def _run(folder: Path, *statements: str, values: tuple[Any, ...] = ()) -> None:
    with closing(sqlite3.connect(folder / "shop.db")) as connection, connection:
        for statement in statements:
            connection.execute(statement, values)


def _ids(watch: Watch) -> list[Any]:
    return [data(event)["id"] for event in watch.inbox.events]


async def test_new_and_changed_rows(tmp_path: Path, watches: Watches) -> None:
    """Rows of a file are told as those of a server; moments are text here, and the overlap knows how it is written."""
    _run(tmp_path, TABLE)
    watch = watches(**OPTIONS)
    assert await watch.look() == []
    _run(tmp_path, "insert into orders values (1, 'a', '2026-01-31 06:00:00'), (2, 'b', '2026-01-31 06:00:01')")
    await watch.look()
    _run(tmp_path, "insert into orders values (3, 'late', '2026-01-31 05:57:00')")
    _run(tmp_path, "insert into orders values (4, 'too late', '2026-01-31 05:50:00')")
    _run(tmp_path, "update orders set what = 'c', updated_at = '2026-01-31 06:10:00' where id = 1")
    await watch.look()
    await watch.restart()
    await watch.look()

    assert [(data(event)["id"], event.type) for event in watch.inbox.events] == [
        (1, "sql.row.created"),
        (2, "sql.row.created"),
        (3, "sql.row.created"),
        (1, "sql.row.changed"),
    ]
    assert watch.inbox.duplicates == 0


@pytest.mark.parametrize("first", ["id integer primary key", "id"])
async def test_numbers_grow_with_and_without_a_type(tmp_path: Path, watches: Watches, first: str) -> None:
    """A sequence is read page by page, whether or not its column has a type."""
    _run(tmp_path, f"create table orders ({first}, what text)")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.executemany("insert into orders values (?, 'x')", [(n,) for n in range(1, 1_001)])
    watch = watches(**{**OPTIONS, "high": "id"}, page_size=64, overlap=10)
    await watch.look()

    assert _ids(watch) == list(range(1, 1_001))


async def test_start_now_and_start_at_a_moment(tmp_path: Path, watches: Watches) -> None:
    """History is left alone; a moment is compared as the table writes its own."""
    _run(
        tmp_path, TABLE, "insert into orders values (1, 'a', '2026-01-31T06:00:00Z'), (2, 'b', '2026-02-01T06:00:00Z')"
    )
    now = watches(**{**OPTIONS, "start": "now"})
    since = watches(**{**OPTIONS, "start": "2026-02-01"})
    await now.look()
    await since.look()
    _run(tmp_path, "insert into orders values (3, 'c', '2026-02-01T06:00:00Z')")
    await now.look()
    await since.look()

    assert (_ids(now), _ids(since)) == ([3], [2, 3])


async def test_values_of_every_type(tmp_path: Path, watches: Watches) -> None:
    """Whole numbers to 64 bits, bytes as base64, infinities as text; text that is none makes its row a dead letter."""
    _run(tmp_path, "create table orders (id, n, r, b, z, updated_at integer)")
    _run(
        tmp_path,
        "insert into orders values (1, 9223372036854775807, 9e999, x'00ff10', null, 1)",
        "insert into orders values (2, cast(x'ff' as text), 1.5, 'é', '', 2)",
    )
    watch = watches(**OPTIONS, overlap=5)
    for _ in range(2):
        await watch.look()

    assert [data(event) for event in watch.inbox.events] == [
        {"id": 1, "n": 9223372036854775807, "r": "Infinity", "b": "AP8Q", "z": None, "updated_at": 1}
    ]
    (letter,) = watch.inbox.dead_letters
    assert (letter.reason, letter.position) == ("unreadable", f"sqlite:///{tmp_path / 'shop.db'}/orders#[2]")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "sqlite:///nowhere.db"}, "nowhere.db is not there; create it"),
        ({"url": "sqlite:///text.db"}, "it is no SQLite file"),
        ({"table": "nowhere"}, "no such table: nowhere: correct the query"),
        ({"high": "changed"}, "no column 'changed', which `high` names"),
        (
            {"table": None, "query": "select * from orders where updated_at >= :high and nope = 1"},
            "no such column: nope: correct the query",
        ),
        (
            {
                "table": None,
                "query": "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1e12) "
                "select i as id, i as updated_at from n where i >= :high",
                "timeout": "100ms",
            },
            "took longer than 0.1 s and was stopped",
        ),
    ],
)
async def test_what_is_wrong_is_told(tmp_path: Path, watches: Watches, options: dict[str, Any], said: str) -> None:
    """Files, tables, columns and time: one sentence each."""
    _run(tmp_path, TABLE)
    (tmp_path / "text.db").write_text("this is no database, however long it may be " * 20)
    given = {name: value for name, value in {**OPTIONS, **options}.items() if value is not None}
    watch = watches(**given)
    with pytest.raises(NotConnected) as error:
        await watch.look()

    assert said in str(error.value)
    assert not (tmp_path / "nowhere.db").exists()
    await watch.sensor.close()
