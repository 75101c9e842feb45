"""PostgreSQL: pages of a query in short read-only transactions, and a bell rung by NOTIFY.

Each page is a transaction of its own, so none stays open while events become durable, and vacuum is never held up. The
settings that matter are local to it, so a pooler between us and the server does no harm. Rows are streamed: a page ends
early when its bytes become too many.

A high column of type `xid8` that holds `pg_current_xact_id()` is read only up to the oldest transaction under way
(`pg_snapshot_xmin`): everything below it has ended, so no row can come late.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson
import psycopg

from sensors.adapters.sql_errors import of_opening, of_query
from sensors.adapters.sql_postgres_values import UNORDERED, Adapters, lowest, parameter, sort_of, type_name
from sensors.adapters.sql_source import After, Page, Query, Shape, Value
from sensors.adapters.sql_text import quoted
from sensors.clock import Clock
from sensors.errors import NotConnected

CONNECT_TIMEOUT: Final = 10
PAGE_BYTES: Final = 8 * 1024 * 1024
_SETTINGS: Final = (
    "select set_config('statement_timeout', $1, true), set_config('timezone', 'UTC', true),"
    " set_config('datestyle', 'ISO, YMD', true), set_config('intervalstyle', 'iso_8601', true),"
    " set_config('bytea_output', 'hex', true), set_config('extra_float_digits', '1', true),"
    " (extract(epoch from clock_timestamp()) * 1000000)::bigint"
)
_AGAIN: Final = (0.5, 60.0)  # the first and the longest wait before the bell is connected again


@dataclass(frozen=True, slots=True)
class Login:
    """How to connect. `conninfo` holds the password and stays out of the repr; `place` is the same without it."""

    conninfo: str
    place: str
    name: str  # application_name

    def __repr__(self) -> str:
        return f"Login({self.place})"

    async def connect(self, *, autocommit: bool = False) -> "psycopg.AsyncConnection[tuple[Any, ...]]":
        """Connect. Raises NotConnected."""
        try:
            connection = await psycopg.AsyncConnection.connect(
                self.conninfo,
                autocommit=autocommit,
                prepare_threshold=None,
                context=Adapters(),
                cursor_factory=psycopg.AsyncRawCursor,
                connect_timeout=CONNECT_TIMEOUT,
                application_name=self.name,
                keepalives_idle=30,
            )
        except (psycopg.Error, OSError, ValueError) as error:
            raise of_opening(self.place, error) from None  # what it chains may name the password
        return connection


class Postgres:
    """Implements `sql_source.Database`. `timeout` is that of a statement, in seconds."""

    def __init__(self, login: Login, timeout: float, page_bytes: int = PAGE_BYTES) -> None:
        self._login = login
        self._timeout = timeout
        self._page_bytes = page_bytes
        self._connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None
        self._types: dict[str, str] = {}  # of the columns, by name

    @property
    def place(self) -> str:
        """The database as a URL without user and password."""
        return self._login.place

    async def open(self) -> None:
        """Connect for reading only."""
        await self.close()
        connection = await self._login.connect()
        await connection.set_read_only(True)
        self._connection = connection

    async def close(self) -> None:
        """Let go."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.close()

    async def shape(self, query: Query) -> Shape:
        """Say what the answer looks like: of a query that returns nothing, and is compared with nothing."""
        async with self._asking() as (cursor, _):
            text = f"select * from (\n{query.statement.text(lambda: 'null')}\n) as q limit 0"
            await cursor.execute(text.encode())
            columns = [(column.name, type_name(column.type_code)) for column in cursor.description or ()]
        self._types = dict(columns)
        for name in query.key:
            if self._types.get(name) in UNORDERED:
                raise NotConnected(
                    f"{self.place}: the key column {name!r} is of type {self._types[name]}; take one of numbers, text "
                    "or moments, or make text of it in the query"
                )
        sort = sort_of(self._types.get(query.high, ""))
        if sort == "other":
            raise NotConnected(
                f"{self.place}: `high`: {query.high!r} is of type {self._types.get(query.high) or 'its own'}; name a "
                "column of moments, numbers, text or xid8 that grows with each change"
            )
        return Shape([name for name, _ in columns], sort)

    async def newest(self, query: Query) -> tuple[Value | None, int]:
        """Return the greatest high that may be read now."""
        high = quoted(query.high)
        given = _Given()
        inside = query.statement.text(lambda: given(self._low(query, None)))
        bound = self._bound(query, " where")
        text = f"select {high} from (\n{inside}\n) as q{bound} order by {high} desc nulls last limit 1"
        async with self._asking() as (cursor, now):
            await cursor.execute(text.encode(), given.values)
            row = await cursor.fetchone()
        return (row[0] if row else None), now

    async def page(self, query: Query, low: Value | None, after: After | None, limit: int) -> Page:
        """Return the next rows."""
        given = _Given()
        start = self._low(query, low if after is None else after.high)
        inside = query.statement.text(lambda: given(start))
        order = ", ".join(quoted(name) for name in (query.high, *query.key))
        where = ""
        if after is not None:
            marks = ", ".join(given(parameter(value)) for value in (after.high, *after.key))
            where = f" where ({order}) > ({marks})"
        where += self._bound(query, " and" if where else " where")
        text = f"select * from (\n{inside}\n) as q{where} order by {order} limit {given(str(limit))}"
        rows: list[Sequence[Any]] = []
        size = 0
        async with self._asking() as (cursor, now):
            stream = cast("AsyncGenerator[tuple[Any, ...]]", cursor.stream(text.encode(), given.values))
            async with contextlib.aclosing(stream):
                async for row in stream:
                    rows.append(row)
                    size += sum(_weight(value) for value in row)
                    if size >= self._page_bytes:
                        break
        return Page(rows, len(rows) >= limit or size >= self._page_bytes, now)

    def _low(self, query: Query, low: Value | None) -> str:
        return lowest(self._types[query.high]) if low is None else parameter(low)

    def _bound(self, query: Query, word: str) -> str:
        """Leave out what transactions may have written that have not all ended."""
        if self._types.get(query.high) != "xid8":
            return ""
        return f"{word} {quoted(query.high)} < pg_snapshot_xmin(pg_current_snapshot())"

    @contextlib.asynccontextmanager
    async def _asking(self) -> "AsyncIterator[tuple[psycopg.AsyncRawCursor[tuple[Any, ...]], int]]":
        """Give a cursor in a transaction of its own, and the server's clock; its errors become ours."""
        if self._connection is None:
            raise NotConnected(f"{self.place}: not connected")
        try:
            async with self._connection.transaction(), psycopg.AsyncRawCursor(self._connection) as cursor:
                await cursor.execute(_SETTINGS.encode(), [str(max(1, round(self._timeout * 1000)))])
                row = await cursor.fetchone()
                yield cursor, int(row[-1]) if row else 0
        except (psycopg.Error, OSError) as error:
            raise of_query(self.place, error, self._timeout) from error


class _Given:
    """Values of parameters. Each use has one of its own: the server gives it the type of what stands beside it."""

    def __init__(self) -> None:
        self.values: list[str] = []

    def __call__(self, value: str) -> str:
        self.values.append(value)
        return f"${len(self.values)}"


def _weight(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, orjson.Fragment):
        return len(orjson.dumps(value))
    return sum(map(_weight, value)) if isinstance(value, list) else 8


class Notified:
    """A bell that NOTIFY on a channel rings, over a connection of its own. Implements `sql_source.Bell`."""

    def __init__(self, login: Login, channel: str, clock: Clock) -> None:
        self._login = login
        self._channel = channel
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._trouble: str | None = None

    @property
    def trouble(self) -> str | None:
        """Say why nothing is heard."""
        return self._trouble

    def start(self, ring: Callable[[], None]) -> None:
        """Listen until closed."""
        self._task = asyncio.create_task(self._listen(ring), name=f"listen {self._channel}")

    async def close(self) -> None:
        """Stop."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen(self, ring: Callable[[], None]) -> None:
        wait, longest = _AGAIN
        while True:
            try:
                connection = await self._login.connect(autocommit=True)
                try:
                    await connection.execute(f"listen {quoted(self._channel)}".encode())
                    self._trouble, wait = None, _AGAIN[0]
                    ring()  # of what was told meanwhile nobody heard
                    async for _ in connection.notifies():
                        ring()
                finally:
                    await connection.close()
                self._trouble = f"{self._login.place}: the connection that listens is gone; polling finds new rows"
            except NotConnected as error:
                self._trouble = f"notices are not heard, polling finds new rows: {error}"
            except (psycopg.Error, OSError) as error:
                why = of_query(self._login.place, error, 0)
                self._trouble = f"notices are not heard, polling finds new rows: {why}"
            await self._clock.sleep(wait)
            wait = min(longest, wait * 2)
