"""The `sql` sensor on PostgreSQL: every version of a row once, whatever commits when."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sensors.errors import NotConnected
from tests.support.databases import NAME, Database, Watch, data, rows_of

pytestmark = pytest.mark.postgres
Watches = Callable[..., Watch]
TABLE = "create table orders (id int primary key, what text, updated_at timestamptz not null default now())"
OPTIONS = {"table": "orders", "key": "id", "high": "updated_at", "start": "beginning"}


def _ids(watch: Watch) -> list[Any]:
    return [data(event)["id"] for event in watch.inbox.events]


async def test_new_and_changed_rows(shop: Database, watches: Watches) -> None:
    """A row is created once and changed at each change; a look at an unchanged table writes nothing."""
    await shop.run(TABLE, "insert into orders values (1, 'a', '2026-01-31 06:00:00.5+00'), (2, 'b', '2026-01-31')")
    watch = watches(url=shop.url, **OPTIONS)
    await watch.connect()
    (two, one) = await watch.look()

    assert (one.id, one.type, one.subject) == ('[1]@["2026-01-31T06:00:00.5Z"]', "sql.row.created", "1")
    assert one.source == f"{watch.sensor._database.place}/orders"
    assert one.time == 1_769_839_200_500_000
    assert data(one) == {"id": 1, "what": "a", "updated_at": "2026-01-31T06:00:00.5Z"}
    assert data(two)["id"] == 2
    batches = len([batch for batch in watch.batches if not batch.empty])
    assert await watch.look() == []
    assert len([batch for batch in watch.batches if not batch.empty]) == batches
    await shop.run("update orders set what = 'c', updated_at = '2026-01-31 07:00+00' where id = 1")
    (changed,) = await watch.look()

    assert (changed.type, data(changed)["what"]) == ("sql.row.changed", "c")
    assert [event.type for event in watch.inbox.events] == ["sql.row.created"] * 2 + ["sql.row.changed"]


async def test_a_restart_tells_nothing_again(shop: Database, watches: Watches) -> None:
    """A new process reads the window again and knows all of it."""
    await shop.run(TABLE, "insert into orders select n, 'x' from generate_series(1, 20) n")
    watch = watches(url=shop.url, **OPTIONS, page_size=7)
    await watch.look()
    await watch.restart()
    await watch.look()

    assert sorted(_ids(watch)) == list(range(1, 21))
    assert watch.inbox.duplicates == 0


async def test_rows_that_share_a_moment_are_all_read(shop: Database, watches: Watches) -> None:
    """Pages go on behind moment and key, so a thousand rows of one statement are neither lost nor read for ever."""
    await shop.run(TABLE, "insert into orders select n, 'x', '2026-01-31' from generate_series(1, 1000) n")
    watch = watches(url=shop.url, **OPTIONS, page_size=64)
    await watch.look()

    assert sorted(_ids(watch)) == list(range(1, 1001))
    assert max(len(batch.events) for batch in watch.batches) == 64


async def test_a_transaction_that_commits_late_is_told(shop: Database, watches: Watches) -> None:
    """A row with a moment that has passed, committed after later ones were read, lies in the overlap."""
    await shop.run(TABLE)
    watch = watches(url=shop.url, **OPTIONS)
    late = await shop.open()
    await late.execute("insert into orders values (1, 'long transaction')")  # now() is the transaction's beginning
    await shop.run("insert into orders values (2, 'short')")
    await watch.look()
    await late.commit()
    await late.close()
    await watch.look()

    assert _ids(watch) == [2, 1]
    assert await watch.look() == []


async def test_by_transaction_number_nothing_is_late(shop: Database, watches: Watches) -> None:
    """A column of type xid8 is read up to the oldest transaction under way: later ones wait, and none is missed."""
    await shop.run("create table outbox (id serial primary key, tx xid8 not null default pg_current_xact_id())")
    watch = watches(url=shop.url, table="outbox", key="id", high="tx", start="beginning")
    late = await shop.open()
    await late.execute("insert into outbox default values")
    await shop.run("insert into outbox default values", "insert into outbox default values")
    held = await watch.look()
    await late.commit()
    await late.close()
    await shop.run("insert into outbox default values")
    await watch.look()

    assert held == []
    assert _ids(watch) == [1, 2, 3, 4]


async def test_start_now_leaves_history_alone(shop: Database, watches: Watches) -> None:
    """What is there at first is no event; its next change is, and so is what was under way then."""
    await shop.run(TABLE, "insert into orders select n, 'old' from generate_series(1, 30) n")
    watch = watches(url=shop.url, **{**OPTIONS, "start": "now"}, page_size=10)
    late = await shop.open()
    await late.execute("insert into orders values (31, 'under way')")
    await watch.look()
    assert watch.inbox.events == []
    await late.commit()
    await late.close()
    await shop.run("update orders set what = 'new', updated_at = now() where id = 7", "insert into orders values (40)")
    await watch.look()

    told = {data(event)["id"]: event.type for event in watch.inbox.events}
    assert told == {31: "sql.row.created", 7: "sql.row.changed", 40: "sql.row.created"}


async def test_start_at_a_moment(shop: Database, watches: Watches) -> None:
    """Rows from that moment on are told, also those of the overlap; older ones never are."""
    await shop.run(
        TABLE,
        "insert into orders values (1, 'x', '2026-01-30'), (2, 'x', '2026-01-31 00:00:00+00'), (3, 'x', '2026-02-01')",
    )
    watch = watches(url=shop.url, **{**OPTIONS, "start": "2026-01-31"}, overlap="10d")
    await watch.look()
    await watch.look()

    assert _ids(watch) == [2, 3]


async def test_a_row_from_the_future_hides_no_other(shop: Database, watches: Watches) -> None:
    """A moment that has not come, or never will, does not move the position past those that do come."""
    await shop.run(TABLE, "insert into orders values (1, 'x', 'infinity'), (2, 'x', '9999-12-31'), (3, 'x', now())")
    watch = watches(url=shop.url, **OPTIONS)
    await watch.look()
    await shop.run("insert into orders values (4, 'x', now())")
    await watch.look()
    await watch.restart()
    await watch.look()

    assert _ids(watch) == [3, 2, 1, 4]
    assert {data(event)["updated_at"] for event in watch.inbox.events} >= {"infinity", "9999-12-31T00:00:00Z"}


@pytest.mark.parametrize(
    ("type", "values", "overlap"),
    [
        ("timestamp", ["2026-01-31 06:00:00", "2026-01-31 06:00:00.000001", "-infinity"], "1h"),
        ("date", ["2026-01-31", "2026-02-01", "0044-03-15 BC"], "1d"),
        ("int8", ["-9223372036854775808", "0", "9007199254740993"], 10),
        ("int2", ["-32768", "-1", "7"], 10),
        ("numeric", ["-1e60", "0.1", "0.10000000000000000001"], 1),
        ("text", ["", "a", "ø"], "0s"),
        ("uuid", ["00000000-0000-0000-0000-000000000000", "0190a2b4-0000-7000-8000-000000000000"], "0s"),
    ],
)
async def test_many_types_grow(
    shop: Database, watches: Watches, type: str, values: list[str], overlap: str | int
) -> None:
    """Moments without an offset, dates, numbers of every size, text and uuids: from the beginning, and after it."""
    rows = ", ".join(f"({n}, '{value}')" for n, value in enumerate(values))
    await shop.run(f"create table t (id int, v {type} not null)", f"insert into t values {rows}")
    watch = watches(url=shop.url, table="t", key="id", high="v", start="beginning", overlap=overlap, page_size=1)
    await watch.look()
    assert sorted(_ids(watch)) == list(range(len(values)))
    await watch.restart()
    await watch.look()
    newest = "select 'ffffffff-ffff-7fff-8fff-ffffffffffff'::uuid" if type == "uuid" else "select max(v) from t"
    await shop.run(f"insert into t select 99, v from ({newest}) as n(v)")
    await watch.look()

    assert sorted(_ids(watch)) == [*range(len(values)), 99]


async def test_values_keep_every_digit(shop: Database, watches: Watches) -> None:
    """Numbers, moments, bytes, json, arrays, nulls and the odd values of floats arrive as the server has them."""
    await shop.run(
        "create type mood as enum ('good')",
        "create table t (id int8, n numeric, f float8, g float4, ok bool, at timestamptz, lt timestamp, d date,"
        " tm time,"
        " iv interval, u uuid, b bytea, j json, jb jsonb, a int[], ta text[], na numeric[], ip inet, r int4range,"
        " m mood, nothing text, v int default 1)",
        "insert into t values (9007199254740993, 12345678901234567890.12345678901234567890, 'NaN', '-Infinity', true,"
        " '2026-01-31 07:00:00.000001+01', '2026-01-31 06:00:00', '2026-01-31', '06:30:00', '1 day 02:03:04.5',"
        " 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '\\x00ff10', '{\"a\": 1.10, \"a\": 2}',"
        " '{\"n\": 0.30000000000000001}',"
        " '{1,null,3}', '{\"a b\",\"c\\\"d\",null}', '{1.10,NaN}', '10.0.0.0/8', '[1,5)', 'good', null)",
    )
    watch = watches(url=shop.url, table="t", key="id", high="v", start="beginning", overlap=0)
    (event,) = await watch.look()
    raw = (event.data or b"").decode()

    assert '"j":{"a": 1.10, "a": 2}' in raw
    assert '"n": 0.30000000000000001' in raw
    found = {name: value for name, value in data(event).items() if name not in ("j", "jb")}
    assert found == {
        "id": 9007199254740993,
        "n": "12345678901234567890.12345678901234567890",
        "f": "NaN",
        "g": "-Infinity",
        "ok": True,
        "at": "2026-01-31T06:00:00.000001Z",
        "lt": "2026-01-31T06:00:00",
        "d": "2026-01-31",
        "tm": "06:30:00",
        "iv": "P1DT2H3M4.5S",
        "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "b": "AP8Q",
        "a": [1, None, 3],
        "ta": ["a b", 'c"d', None],
        "na": ["1.10", "NaN"],
        "ip": "10.0.0.0/8",
        "r": "[1,5)",
        "m": "good",
        "nothing": None,
        "v": 1,
    }


async def test_a_query_of_ones_own(shop: Database, watches: Watches) -> None:
    """A join with a cast of `:high` and a percent sign; its columns are the event, several columns are the key."""
    await shop.run(
        TABLE,
        "create table lines (order_id int, line int, sku text, at timestamptz default now())",
        "insert into orders values (1, '100% sure')",
        "insert into lines values (1, 1, 'A'), (1, 2, 'B')",
    )
    query = (
        "select l.order_id, l.line, l.sku, o.what, l.at from lines l join orders o on o.id = l.order_id\n"
        "where l.at >= :high::timestamptz and o.what like '100%' -- mine: not :yours"
    )
    watch = watches(
        url=shop.url, query=query, key=["order_id", "line"], high="at", version=["sku", "what"], start="beginning"
    )
    events = await watch.look()

    assert [event.subject for event in events] == ["[1,1]", "[1,2]"]
    assert [event.id for event in events] == ['[1,1]@["A","100% sure"]', '[1,2]@["B","100% sure"]']
    await shop.run("update lines set at = now()")
    assert await watch.look() == []
    await shop.run("update lines set sku = 'C', at = now() where line = 2")
    assert [event.type for event in await watch.look()] == ["sql.row.changed"]


async def test_keys_cannot_be_mistaken_for_each_other(shop: Database, watches: Watches) -> None:
    """Whatever characters are in two columns, two rows have two ids; a very long key is known by its hash."""
    await shop.run(
        "create table t (a text, b text, v int default 1)",
        "insert into t values ('x,y', 'z'), ('x', 'y,z'), ('[\"x\"', '@'), (repeat('k', 5000), ''),"
        " (repeat('k', 5001), '')",
    )
    watch = watches(url=shop.url, table="t", key=["a", "b"], high="v", start="beginning", overlap=0)
    await watch.look()

    assert len({event.id for event in watch.inbox.events}) == 5
    assert all(len(event.id) < 1200 for event in watch.inbox.events)


async def test_what_cannot_be_told_is_a_dead_letter_once(shop: Database, watches: Watches) -> None:
    """A row without a key and a row that is too large are told of once, and stop nothing."""
    await shop.run(
        "create table t (id int, body text, v int default 1)",
        "insert into t values (null, 'lost'), (2, repeat('x', 5000)), (3, 'fine')",
    )
    watch = watches(url=shop.url, table="t", key="id", high="v", start="beginning", overlap=1, max_row="2KiB")
    for _ in range(3):
        await watch.look()

    assert _ids(watch) == [3]
    assert sorted(letter.reason for letter in watch.inbox.dead_letters) == ["no_key", "too_large"]
    assert b"lost" in watch.inbox.dead_letters[0].payload


async def test_a_large_page_ends_early(shop: Database, watches: Watches) -> None:
    """Wide rows are read in as many pages as their bytes need, and none is left out."""
    await shop.run(
        "create table t (id int primary key, body text, v int default 1)",
        "insert into t select n, repeat('x', 100000) from generate_series(1, 40) n",
    )
    watch = watches(url=shop.url, table="t", key="id", high="v", start="beginning", overlap=0)
    watch.sensor._database._page_bytes = 1_000_000  # type: ignore[attr-defined]
    await watch.look()

    assert _ids(watch) == list(range(1, 41))
    assert max(len(batch.events) for batch in watch.batches) == 10


async def test_a_notice_is_heard_at_once(shop: Database, watches: Watches) -> None:
    """NOTIFY makes the sensor look before its time; when the connection that listens is cut, it comes back."""
    await shop.run(TABLE)
    watch = watches(url=shop.url, **OPTIONS, listen="orders changed", every="1h")
    await watch.look()
    bell = watch.sensor._bell
    assert bell is not None
    await watch.read()  # what was told before it listened nobody heard, so it looks once
    for n in (1, 2):
        await shop.run(f"insert into orders values ({n})", 'notify "orders changed"')
        async with asyncio.timeout(10):
            while len(watch.inbox.events) < n:
                await watch.read()
        await shop.run("select pg_terminate_backend(pid) from pg_stat_activity where query like 'listen%'")
        async with asyncio.timeout(10):
            while bell.trouble is None:
                await asyncio.sleep(0.005)
        assert "polling finds new rows" in bell.trouble
        assert watch.sensor.trouble() == bell.trouble
        async with asyncio.timeout(10):
            while bell.trouble is not None:
                await watch.clock.advance(1.0)
                await asyncio.sleep(0.005)

    assert _ids(watch) == [1, 2]


async def test_nothing_is_ever_written(shop: Database, watches: Watches) -> None:
    """A function that writes is stopped by the read-only transaction, with a sentence."""
    await shop.run(
        TABLE,
        "create function spoil() returns int language sql as $$ insert into orders values (9); select 1 $$",
        "insert into orders values (1)",
    )
    query = "select id, updated_at, spoil() from orders where updated_at >= :high"
    watch = watches(url=shop.url, query=query, key="id", high="updated_at", start="beginning")
    await watch.connect()
    with pytest.raises(NotConnected, match="the query writes, and a sensor only reads"):
        await watch.look()

    assert await shop.run("select count(*) from orders") == [(1,)]


async def test_rows_are_forgotten_when_they_have_rested(shop: Database, watches: Watches) -> None:
    """With `remember` the memory shrinks; what lies in the window is kept, so nothing is told twice."""
    await shop.run(TABLE, "insert into orders select n, 'x', '2026-01-30' from generate_series(1, 5) n")
    await shop.run("insert into orders values (6, 'x', '2026-01-31')")
    watch = watches(url=shop.url, **OPTIONS, remember="1d", every="30m")
    await watch.look()
    await watch.clock.advance(2 * 86_400.0)
    for _ in range(6):
        await watch.read()
    known = await watch.inbox.lookup(NAME).seen_range("", None, 100)
    await watch.restart()
    await watch.look()

    assert [row.key for row in known] == ["[6]"]
    assert len(watch.inbox.events) == 6


async def test_another_table_needs_a_word(shop: Database, watches: Watches) -> None:
    """A position of another table is not gone on from: `keep` and `reset` say what to do."""
    await shop.run(TABLE, "create table others as select * from orders", "insert into orders values (1)")
    await shop.run("insert into others values (5, 'x', now())")
    watch = watches(url=shop.url, **OPTIONS)
    await watch.look()
    with pytest.raises(NotConnected, match=r"it watched .*/orders by updated_at so far and is to watch .*/others"):
        await watch.restart(table="others")
    await watch.restart(cursor="reset")
    await watch.look()

    assert _ids(watch) == [1, 5]
    assert {row.key for row in await watch.inbox.lookup(NAME).seen_range("", None, 9)} == {"[5]"}
    assert rows_of(watch.inbox.events)[1]["what"] == "x"
