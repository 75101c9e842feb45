"""A table of Snowflake. Its DDL ends transactions, so columns are made before the one that brings the rows.

A new column, or a table without rows, can therefore be seen a moment before the write that asked for it. Rows and the
record of the write are one transaction; writers of one dataset wait for each other on its row of `_tidegate_locks`.
Names that are plain in lower case stand for Snowflake's own upper case ones, as they do without quotes.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, Final

from pipelines.datasets.connections import SnowflakeConnection, snowflake
from pipelines.datasets.snowflake_types import bound, bound_type, column_type, polars_frame, typed_value
from pipelines.datasets.sql_table import INCOMING, SqlTable
from pipelines.datasets.target import Target
from pipelines.datasets.written import Schema, TargetBusy, TargetUnusable

WAIT: Final = 60  # seconds to wait for another writer of the dataset
LOCKS: Final = "_tidegate_locks"
_BOUND: Final = "_tidegate_bound"  # the rows as they were bound, before they get their types
BATCH: Final = 4_096  # rows for one INSERT
_LOGIN: Final = 30  # seconds
_NETWORK: Final = 900  # seconds after which one statement's requests are given up
_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_$]*")
_UPPER: Final = re.compile(r"[A-Z_][A-Z0-9_$]*")
_MISSING: Final = (2003, 2043)  # object does not exist, or no access to it
_BUSY: Final = (625, 57014, 604)  # lock wait timed out, or the statement was cancelled
_RECORDS: Final = (
    "create table if not exists {} ("
    "dataset varchar not null, run varchar not null, task varchar not null, part varchar not null,"
    " fence number(38,0) not null, attempt number(38,0) not null, mode varchar not null,"
    " rows number(38,0) not null, columns varchar not null, written_at number(38,0) not null,"
    " seq number(38,0), resumes varchar)"
)
_NUMBER: Final = re.compile(r"NUMBER\((\d+),(\d+)\)")


def open_snowflake(
    target: Target,
    connection: Mapping[str, Any] | None = None,
    _sleep: Callable[[float], None] = time.sleep,
) -> SqlTable:
    """Return the table; nothing is connected yet."""
    reached = snowflake(connection)
    database = target.place.partition("/")[2]

    @contextmanager
    def connect(_write: bool) -> Iterator[_SnowSession]:
        opened = _connected(reached, database, target)
        session = _SnowSession(opened, target, database)
        try:
            yield session
        except BaseException:
            session.undo()
            raise
        finally:
            opened.close()

    return SqlTable(target, connect, fits, target.schema)


def fits(there: str, coming: str) -> bool:
    """Say whether values of one Snowflake type go into a column of another without loss."""
    if there == coming:
        return True
    room, need = _NUMBER.fullmatch(there), _NUMBER.fullmatch(coming)
    if room is not None and need is not None:
        return int(room[2]) >= int(need[2]) and int(room[1]) - int(room[2]) >= int(need[1]) - int(need[2])
    head = there.partition("(")[0]
    return head == coming.partition("(")[0] and head in ("VARCHAR", "TIME", "TIMESTAMP_NTZ", "TIMESTAMP_TZ", "BINARY")


class _SnowSession:
    """One connection."""

    transactional_ddl = False
    moment_type = "TIMESTAMP_TZ(9)"
    text_type = "VARCHAR"

    def __init__(self, connection: Any, target: Target, database: str) -> None:
        self._c = connection
        self._target = target
        self._database = database

    def run(self, sql: str, values: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
        with _told(self._target), closing(self._c.cursor()) as cursor:
            cursor.execute(sql, tuple(values) or None)
            rows: Sequence[Sequence[Any]] = cursor.fetchall()
            return rows

    def prepare(self, records: str) -> None:
        schema = self._target.schema
        known = self.run(
            f"select 1 from {self.quoted(self._database)}.information_schema.schemata"  # noqa: S608 - quoted
            " where schema_name = ?",
            [folded(schema)],
        )
        if not known:
            self.run(f"create schema if not exists {self.quoted(self._database, schema)}")
        self.run(_RECORDS.format(records))
        self.run(
            f"create table if not exists {self.quoted(schema, LOCKS)} (dataset varchar not null, taken_at varchar)"
        )

    def begin(self, dataset: str, records: str) -> None:
        locks = self.quoted(self._target.schema, LOCKS)
        self.run(
            f"merge into {locks} as t using (select ? as dataset) as s on t.dataset = s.dataset"  # noqa: S608 - quoted
            " when not matched then insert (dataset) values (s.dataset)",
            [dataset],
        )
        self.run("begin")
        # An update holds the table's lock until the end of the transaction.
        self.run(f"update {locks} set taken_at = to_varchar(current_timestamp()) where dataset = ?", [dataset])  # noqa: S608

    def commit(self) -> None:
        self.run("commit")

    def undo(self) -> None:
        """Give up the transaction, if there is one: the account would keep its locks for hours."""
        with suppress(TargetUnusable, TargetBusy):
            self.run("rollback")

    def columns(self, schema: str, table: str) -> Schema | None:
        try:
            rows = self.run(f"describe table {self.quoted(schema, table)}")
        except _Missing:
            return None
        return tuple((told(row[0]), _word(row[1])) for row in rows) or None

    def stage(self, frame: Any) -> Schema:
        columns = tuple((name, column_type(dtype)) for name, dtype in frame.schema.items())
        listed = ", ".join(f"{self.quoted(name)} {bound_type(kind)}" for name, kind in columns)
        self.run(f"create or replace temporary table {_BOUND} ({listed})")
        marks = ", ".join("?" for _ in columns)
        with _told(self._target), closing(self._c.cursor()) as cursor:
            for rows in bound(frame, BATCH):
                cursor.executemany(f"insert into {_BOUND} values ({marks})", rows)  # noqa: S608 - marks
        typed = ", ".join(f"{typed_value(self.quoted(name), kind)} as {self.quoted(name)}" for name, kind in columns)
        self.run(f"create or replace temporary table {INCOMING} as select {typed} from {_BOUND}")  # noqa: S608 - quoted
        return columns

    def frame(self, sql: str, values: Sequence[Any] = ()) -> Any:
        with _told(self._target), closing(self._c.cursor()) as cursor:
            cursor.execute(sql, tuple(values) or None)
            return polars_frame(cursor, told)

    def quoted(self, *names: str) -> str:
        return ".".join('"' + folded(name).replace('"', '""') + '"' for name in names)

    def size(self, schema: str, table: str) -> int | None:
        return None


def folded(name: str) -> str:
    """Return Snowflake's name for one of ours."""
    return name.upper() if _PLAIN.fullmatch(name) else name


def told(name: str) -> str:
    """Return our name for one of Snowflake's."""
    return name.lower() if _UPPER.fullmatch(name) else name


def _word(kind: str) -> str:
    """Return a type without the length that every text and binary column has."""
    return kind.partition("(")[0] if kind in ("VARCHAR(16777216)", "BINARY(8388608)") else kind


def _connected(reached: SnowflakeConnection, database: str, target: Target) -> Any:
    try:
        import snowflake.connector as driver
    except ModuleNotFoundError as error:
        raise TargetUnusable("snowflake:// needs what an extra installs: tidegate[snowflake]") from error

    more: dict[str, Any] = {
        name: value
        for name in ("role", "warehouse", "host", "port", "authenticator")
        if (value := getattr(reached, name)) is not None
    }
    for name in ("password", "token"):
        secret = getattr(reached, name)
        if secret is not None:
            more[name] = secret.get_secret_value()
    if reached.private_key is not None:
        more["private_key"] = _der(reached)
    if reached.token is not None:
        more.setdefault("authenticator", "PROGRAMMATIC_ACCESS_TOKEN")
    try:
        return driver.connect(
            account=reached.account,
            user=reached.user,
            database=folded(database),
            schema=folded(target.schema),
            protocol=reached.protocol,
            paramstyle="qmark",
            login_timeout=_LOGIN,
            network_timeout=_NETWORK,
            application="tidegate",
            session_parameters={"TIMEZONE": "UTC", "QUERY_TAG": "tidegate", "LOCK_TIMEOUT": WAIT},
            **more,
        )
    except driver.errors.Error as error:
        raise TargetUnusable(f"{target.namespace} cannot be reached: {_line(error)}") from error


def _der(reached: SnowflakeConnection) -> bytes:
    """Return the private key as the driver takes it."""
    from cryptography.hazmat.primitives import serialization as s

    phrase = reached.private_key_passphrase
    pem = reached.private_key.get_secret_value() if reached.private_key is not None else ""
    try:
        key = s.load_pem_private_key(pem.encode(), None if phrase is None else phrase.get_secret_value().encode())
    except (TypeError, ValueError) as error:
        raise TargetUnusable("the connection's `private_key` is no key in PEM, or needs its passphrase") from error
    return key.private_bytes(s.Encoding.DER, s.PrivateFormat.PKCS8, s.NoEncryption())


class _Missing(TargetUnusable):
    """There is no such table."""


@contextmanager
def _told(target: Target) -> Iterator[None]:
    """Turn what the driver raises into the errors of writers."""
    from snowflake.connector import errors

    try:
        yield
    except errors.Error as error:
        if error.errno in _MISSING:
            raise _Missing(f"{target.name} could not be used: {_line(error)}") from error
        if error.errno in _BUSY or "conflict" in str(error).lower():
            raise TargetBusy(f"{target.name} is being written by another: {_line(error)}") from error
        raise TargetUnusable(f"{target.name} could not be used: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]
