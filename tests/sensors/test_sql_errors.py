"""What is wrong with a database is told in one sentence with its remedy, and never with a secret."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sensors.errors import NotConnected
from tests.support.databases import Database, Watch
from tests.support.postgres import Server, free_port

pytestmark = pytest.mark.postgres
Watches = Callable[..., Watch]
TABLE = "create table orders (id int primary key, updated_at timestamptz not null default now(), note text, doc jsonb)"
OPTIONS: dict[str, Any] = {"table": "orders", "key": "id", "high": "updated_at", "start": "beginning"}
PASSWORD = "c4nary-s3cret"


async def _said(watch: Watch) -> str:
    with pytest.raises(NotConnected) as error:
        await watch.look()
    shown = str(error.value)
    assert PASSWORD not in shown
    assert PASSWORD not in repr(error.value.__cause__)
    assert "\n" not in shown
    return shown


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"table": "nowhere"}, 'relation "nowhere" does not exist: the table is not there'),
        ({"table": "missing.orders"}, 'relation "missing.orders" does not exist: the table is not there'),
        ({"high": "changed"}, 'column "changed" does not exist: a column is not there'),
        ({"key": "order_id"}, "the query gives no column 'order_id', which `key` names; it gives id, updated_at"),
        ({"version": ["etag"]}, "the query gives no column 'etag', which `version` names"),
        ({"high": "note"}, "nothing can be subtracted from 'note' by itself"),
        ({"high": "doc"}, "`high`: 'doc' is of type jsonb; name a column of moments"),
        ({"key": "doc"}, "the key column 'doc' is of type jsonb; take one of numbers"),
        ({"overlap": 5}, "`overlap`: 'updated_at' is a time; write a duration such as 5m"),
        ({"high": "id", "overlap": "5m"}, "`overlap`: 'id' is a number; write how far it may lag behind"),
        ({"high": "id", "start": "-7d"}, "`start`: 'id' holds no moments; write now or beginning"),
        (
            {"table": None, "query": "select id, id, updated_at from orders where updated_at >= :high"},
            "the query gives two columns named 'id'; name them apart with `as`",
        ),
        (
            {"table": None, "query": "select from where updated_at >= :high"},
            "the query is no SQL that the server understands",
        ),
        (
            {"table": None, "query": "select * from orders where updated_at >= :high and pg_sleep(5) is not null"},
            "the query took longer than 0.2 s and was stopped; add an index on `high` and `key`, or raise `timeout`",
        ),
    ],
)
async def test_a_query_that_does_not_fit(shop: Database, watches: Watches, options: dict[str, Any], said: str) -> None:
    """Tables, columns, types, overlap, syntax and time: each says what is wrong, and what would be right."""
    await shop.run(TABLE, "insert into orders values (1)")
    given = {name: value for name, value in {**OPTIONS, "timeout": "200ms", **options}.items() if value is not None}

    assert said in await _said(watches(url=shop.url, **given))


async def test_who_may_not_read(shop: Database, postgres: Server, watches: Watches) -> None:
    """A user without the right is told which right; a user and a database that are not there are named."""
    role = "reader_" + shop.url[-8:]
    await shop.run(TABLE, f"create role {role} login password '{PASSWORD}'")
    host = postgres.url.rpartition("@")[2]
    database = shop.url.rpartition("/")[2]
    try:
        reader = f"postgresql://{role}:{PASSWORD}@{host}"
        assert "permission denied for table orders: the user may not read it; grant select to it" in await _said(
            watches(url=f"{reader}/{database}", **OPTIONS)
        )
        assert "the database or the user does not exist" in await _said(watches(url=f"{reader}/nowhere", **OPTIONS))
        assert "the database or the user does not exist" in await _said(
            watches(url=f"postgresql://nobody:{PASSWORD}@{host}/{database}", **OPTIONS)
        )
    finally:
        await shop.run(f"drop role {role}")


async def test_nobody_is_there(watches: Watches) -> None:
    """A refused connection and a host that does not exist say so."""
    url = f"postgresql://reader:{PASSWORD}@127.0.0.1:{free_port()}/shop"
    assert "nobody listens there; is the server up" in await _said(watches(url=url, **OPTIONS))
    url = f"postgresql://reader:{PASSWORD}@no-such-host.invalid/shop"
    assert "there is no such host; correct it" in await _said(watches(url=url, **OPTIONS))


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (f'FATAL:  password authentication failed for user "reader" ({PASSWORD})', "user or password is wrong"),
        ("FATAL:  no pg_hba.conf entry for host", "lets nobody in from here"),
        ("SSL error: certificate verify failed", "the server's certificate is not trusted"),
        ("FATAL:  sorry, too many clients already", "takes no more connections now"),
    ],
)
async def test_a_server_that_says_no(watches: Watches, message: str, said: str) -> None:
    """A server that refuses a login is quoted by its meaning, not by its words."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(8)
        if int.from_bytes(head[4:]) == 80877103:  # it asks for TLS first
            writer.write(b"N")
            head = await reader.readexactly(8)
        await reader.readexactly(int.from_bytes(head[:4]) - 8)
        body = b"SFATAL\0C28P01\0M" + message.encode() + b"\0\0"
        writer.write(b"E" + (len(body) + 4).to_bytes(4) + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"postgresql://reader:{PASSWORD}@127.0.0.1:{port}/shop"
        assert said in await _said(watches(url=url, **OPTIONS))


async def test_a_connection_that_is_cut_comes_back(shop: Database, watches: Watches) -> None:
    """When the server ends the session the sensor says so; connected again it goes on, and nothing is lost."""
    await shop.run(TABLE, "insert into orders select n from generate_series(1, 30) n")
    watch = watches(url=shop.url, **OPTIONS, page_size=10)
    await watch.connect()
    await watch.read()
    await watch.read()
    await shop.run("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'tidegate%'")
    with pytest.raises(NotConnected, match="the connection is gone"):
        await watch.read()
    await watch.close()
    await watch.look()

    assert len(watch.inbox.events) == 30
    assert watch.inbox.duplicates == 0
