"""Rows of a database: new ones, and those that changed.

In flow pages of a query's rows, from a little before the greatest `high` on; out flows one event for each version of a
row, with its columns as JSON. The database is only read, in short transactions; rows that are deleted are not seen.

Order: within one look by `high`, then `key`; rows that are committed late come late.
"""

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from sensors.adapters.sql_options import DatabaseUrl, check_url, open_bell, open_driver, url_of
from sensors.adapters.sql_rows import CHANGED, CREATED, Telling
from sensors.adapters.sql_sensor import Asking, SqlSensor
from sensors.adapters.sql_source import Query
from sensors.adapters.sql_text import Statement, read_statement, table_query
from sensors.kind import Emits, SensorContext, SensorKind, SensorOptions
from sensors.sensor import Sensor
from sensors.units import Duration, Size, Start, parse_duration

_NAME: Final = re.compile(r"[^\x00-\x1f]{1,128}")


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _overlap(value: Any) -> Any:
    """Take a whole number as it is (rows may lag so far behind in a sequence), all else as a duration."""
    if isinstance(value, bool) or not isinstance(value, int):
        return parse_duration(value)
    if not 0 <= value < 1 << 62:
        raise ValueError("must be 0 or more")
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_many)]


class SqlOptions(SensorOptions):
    """Options of `kind: sql`."""

    kind: Literal["sql"] = "sql"
    url: DatabaseUrl | None = Field(
        None, description="`postgresql://user:${env:PGPASSWORD}@host/database`, or `sqlite:///file.db`"
    )
    connection: str | None = Field(None, description="instead of `url`: a connection of kind postgresql or sqlite")
    query: str | None = Field(
        None, max_length=65_536, description="a select that compares the high column with `:high`, without a limit"
    )
    table: str | None = Field(None, description="instead of `query`: a table, such as public.orders; names as stored")
    columns: Names = Field((), description="of `table`: the columns to read; by default all")
    key: Names = Field(min_length=1, max_length=16, description="the columns that identify a row")
    high: str = Field(min_length=1, description="a column that grows with each change: a moment or a number")
    version: Names = Field(
        (), max_length=16, description="the columns that differ when a row has changed; by default `high`"
    )
    overlap: Annotated[float | int | None, BeforeValidator(lambda v: v if v is None else _overlap(v))] = Field(
        None,
        description="how far back each look begins, for rows that are committed late: a duration, or a number where "
        "`high` is one; by default 5m (a day for dates), or 1000",
    )
    start: Start = Field(description="where history starts without a position")
    every: Duration = Field(30.0, ge=0.1, description="how often to look")
    listen: str | None = Field(
        None,
        min_length=1,
        max_length=63,
        description="a channel of NOTIFY (PostgreSQL): a notice makes it look at once",
    )
    timeout: Duration = Field(30.0, ge=0.1, le=600, description="how long a query may take before it is stopped")
    page_size: int = Field(500, ge=1, le=5_000, description="rows that are read and made durable at once")
    max_row: Size = Field(1 << 20, ge=1_024, le=64 << 20, description="a larger row becomes a dead letter")
    remember: Duration | None = Field(
        None,
        ge=60,
        description="forget a row that has not changed for so long: its next change is `created`; by default never",
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if (self.url is None) == (self.connection is None):
            raise ValueError("needs either `url` or `connection`")
        if (self.query is None) == (self.table is None):
            raise ValueError("needs either `query` or `table`")
        if self.columns and self.table is None:
            raise ValueError("`columns` goes with `table`; write them into the query")
        for name in (*self.key, *self.version, *self.columns, self.high):
            if not _NAME.fullmatch(name):
                raise ValueError(f"`{name[:40]}` is no name of a column")
        if self.columns:
            for name in (*self.key, *self.version, self.high):
                if name not in self.columns:
                    raise ValueError(f"`columns`: add {name}, which the sensor needs")
        if self.table is not None and not all(_NAME.fullmatch(part) for part in self.table.split(".")):
            raise ValueError("`table` is no name; write table or schema.table")
        if self.url is not None:
            check_url(self.url.get_secret_value())
        self.statement()
        return self

    def statement(self) -> Statement:
        """Return the query, cut. Raises ValueError with a sentence."""
        return read_statement(self.query or table_query(self.table or "", self.columns, self.high))


def build(options: SqlOptions, context: SensorContext) -> Sensor:
    """Make the sensor; nothing is opened. Raises ValueError with a sentence."""
    url = url_of(options.url, options.connection, context)
    database = open_driver(url, context, options.timeout)
    bell = None if options.listen is None else open_bell(url, options.listen, context, context.clock)
    version = options.version or (options.high,)
    source = database.place + (f"/{options.table}" if options.table else "")
    asking = Asking(
        query=Query(options.statement(), options.key, options.high),
        source=f"{source} by {options.high}",
        every=options.every,
        start=options.start,
        cursor=options.cursor,
        overlap=options.overlap,
        page_size=options.page_size,
        remember=options.remember,
    )
    telling = Telling(context.name, source, options.key, version, options.high, options.max_row)
    return SqlSensor(asking, telling, database, bell, context.clock)


KIND = SensorKind(
    name="sql",
    help="rows of a database that are new or changed (PostgreSQL, SQLite)",
    options=SqlOptions,
    build=build,
    single=True,
    emits=Emits(
        types={
            CREATED: "a row with a key that was not seen before",
            CHANGED: "a row that was seen before has another version",
        },
        subject="the key: as text, of several columns as a JSON array",
        time="the value of `high`, where that is a moment with an offset",
        data="JSON: the row by column; numeric as text with every digit, moments as RFC 3339, bytes as base64, json as "
        "it is, arrays as lists, NaN and infinities as text, all else as the database prints it",
        attributes="none",
        sample={
            "id": '[4711]@["2026-01-31T06:00:00.123456Z"]',
            "source": "postgresql://db.internal:5432/shop/public.orders",
            "type": CREATED,
            "subject": "4711",
            "time": "2026-01-31T06:00:00.123456Z",
            "content_type": "application/json",
            "data": {
                "id": 4711,
                "customer": "acme",
                "amount": "129.90",
                "updated_at": "2026-01-31T06:00:00.123456Z",
                "lines": [{"sku": "A-1", "n": 2}],
            },
        },
    ),
)
