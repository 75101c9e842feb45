"""SQLite: pages of a query from a file that others write, opened for reading only, on a thread of its own.

Every value has its own type here, so what the high column is made of is learned from its greatest value. Text that is
no UTF-8 keeps its odd bytes as lone surrogates, which the sensor refuses row by row.
"""

import asyncio
import base64
import math
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import quote

from sensors.adapters.offloop import OffLoop
from sensors.adapters.sql_source import After, Page, Query, Shape, Sort, Value
from sensors.adapters.sql_text import quoted
from sensors.errors import BackOff, NotConnected, SensorError

PAGE_BYTES: Final = 8 * 1024 * 1024
_BUSY: Final = 5.0
_ALL: Final = -math.inf  # not above any number or moment, in columns of any affinity
P = ParamSpec("P")
T = TypeVar("T")


class Sqlite:
    """Implements `sql_source.Database`. `timeout` is that of a statement, in seconds."""

    def __init__(self, path: Path, name: str, timeout: float, page_bytes: int = PAGE_BYTES) -> None:
        self._path = path
        self._timeout = timeout
        self._page_bytes = page_bytes
        self._off = OffLoop(f"sqlite-{name}")
        self._connection: sqlite3.Connection | None = None

    @property
    def place(self) -> str:
        """The file as a URL."""
        return f"sqlite:///{self._path}"

    async def open(self) -> None:
        """Open the file, which must be there."""
        if self._off.busy:
            raise NotConnected(f"{self._path}: the file system has not answered yet; is it a mount that hangs?")
        await self._do(self._open)

    def _open(self) -> None:
        self._shut()
        if not self._path.is_file():
            raise NotConnected(f"{self._path} is not there; create it, or correct the path")
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode=ro",
            uri=True,
            timeout=_BUSY,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        connection.execute("pragma query_only = on")
        self._connection = connection

    async def close(self) -> None:
        """Let go of the file; a call that hangs is stopped."""
        connection = self._connection
        if connection is not None:
            connection.interrupt()
        if await self._off.rest(5.0):
            await self._off.do(self._shut)
            self._off.close()

    def _shut(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def shape(self, query: Query) -> Shape:
        """Say what the answer looks like; what the high column is made of is known when there is a row."""
        return await self._do(self._shape, query)

    def _shape(self, query: Query) -> Shape:
        cursor = self._execute(f"select * from (\n{_text(query)}\n) as q limit 0", {"high": _ALL})
        columns = [column[0] for column in cursor.description or ()]
        newest = self._newest(query)[0] if query.high in columns else None
        return Shape(columns, _sort_of(newest))

    async def newest(self, query: Query) -> tuple[Value | None, int]:
        """Return the greatest high."""
        return await self._do(self._newest, query)

    def _newest(self, query: Query) -> tuple[Value | None, int]:
        text = f"select max({quoted(query.high)}) from (\n{_text(query)}\n) as q"
        row = self._execute(text, {"high": _ALL}).fetchone()
        value = row[0] if row else None
        if isinstance(value, bytes):
            raise NotConnected(f"{self.place}: `high`: {query.high!r} holds bytes; name a column of numbers or text")
        return value, time.time_ns() // 1000

    async def page(self, query: Query, low: Value | None, after: After | None, limit: int) -> Page:
        """Return the next rows."""
        return await self._do(self._page, query, low, after, limit)

    def _page(self, query: Query, low: Value | None, after: After | None, limit: int) -> Page:
        start: Value = (_ALL if low is None else low) if after is None else after.high
        order = ", ".join(quoted(name) for name in (query.high, *query.key))
        given: dict[str, Any] = {"high": start, "page_limit": limit}
        where = ""
        if after is not None:
            given |= {f"a{n}": value for n, value in enumerate((after.high, *after.key))}
            where = f" where ({order}) > ({', '.join(f':a{n}' for n in range(len(query.key) + 1))})"
        text = f"select * from (\n{_text(query)}\n) as q{where} order by {order} limit :page_limit"
        rows: list[Sequence[Any]] = []
        size = 0
        for row in self._execute(text, given):
            rows.append([_plain(value) for value in row])
            size += sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)
            if size >= self._page_bytes:
                break
        return Page(rows, len(rows) >= limit or size >= self._page_bytes, time.time_ns() // 1000)

    def _execute(self, text: str, given: dict[str, Any]) -> sqlite3.Cursor:
        if self._connection is None:
            raise NotConnected(f"{self.place}: not connected")
        return self._connection.execute(text, given)

    async def _do(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call; interrupt it when it takes too long."""

        def call() -> T:
            try:
                return fn(*args, **kwargs)
            except sqlite3.Error as error:
                raise _meant(self.place, error, self._timeout) from error

        try:
            async with asyncio.timeout(self._timeout):
                return await self._off.do(call)
        except TimeoutError:
            if self._connection is not None:
                self._connection.interrupt()
            raise NotConnected(
                f"{self.place}: the query took longer than {self._timeout:g} s and was stopped; add an index on `high` "
                "and `key`, or raise `timeout`"
            ) from None


def _text(query: Query) -> str:
    return query.statement.text(lambda: ":high")


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _sort_of(value: Any) -> Sort | None:
    if value is None:
        return None
    if isinstance(value, int):
        return "whole"
    return "number" if isinstance(value, float) else "text"


def _meant(place: str, error: sqlite3.Error, timeout: float) -> SensorError:
    """Say what an error means, in one sentence with its remedy."""
    said = " ".join(str(error).split())[:300]
    if "locked" in said or "busy" in said:
        return BackOff(f"{place}: others hold it locked", _BUSY)
    if said == "interrupted":
        return NotConnected(f"{place}: the query took longer than {timeout:g} s and was stopped")
    for sign, remedy in (
        ("no such table", "correct the query"),
        ("no such column", "correct the query, or `key`, `high` and `version`"),
        ("syntax error", "the query is no SQL that SQLite understands; correct it"),
        ("readonly", "the query writes, and a sensor only reads; take that out"),
        ("not a database", "it is no SQLite file; correct the path"),
        ("unable to open", "it cannot be opened; may the service read it and its folder?"),
    ):
        if sign in said:
            return NotConnected(f"{place}: {said}: {remedy}")
    return NotConnected(f"{place}: {said}")
