"""The PostgreSQL store: several replicas on one database, one writing connection each.

Row locks in sorted order, `SKIP LOCKED` claims, the database's clock, READ COMMITTED. A connection lost during COMMIT
leaves a doubt, which is settled by asking the database what became of that transaction. Locks of a paused or vanished
replica do not last: its session is ended by the server, and whoever waits gives up and tries again.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psycopg

from pipelines.run import Run, TaskRun
from tidegate.store.migrate import HEAD, is_current, upgrade_postgres
from tidegate.store.postgres_session import NOW, PostgresSession
from tidegate.store.reader import Reader
from tidegate.store.readers import ReadConnection
from tidegate.store.records import RunUpdate
from tidegate.store.sql import SqlTx
from tidegate.store.sql_reader import SqlReader
from tidegate.store.tx import StoreError, Tx
from tidegate.store.writer import Failure

CHANNEL = "tidegate_work"
_BEGIN = f"BEGIN; SELECT {NOW}, txid_current()"
_BEGIN_READ = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT {NOW}"
_HINT_EVERY = 0.05
_IDLE = 30.0
_DOUBT = 5.0  # seconds to find out what became of a COMMIT
_RETRY_CODES = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock timeout
_STORE_CLASSES = {
    "08",
    "53",
    "57",
    "58",
    "F0",
    "XX",
}  # connection, resources, operator, system, configuration, internal
_STORE_CODES = {"25006", "25P03"}  # read-only (a standby), ended for idling in a transaction


@dataclass(frozen=True, slots=True)
class PostgresOptions:
    """Where the database is, and which replica this is.

    `patience` is how long another replica may hold a lock that this one needs, in seconds: well below a lease, because
    leases are renewed over the same connection. A replica that stands still within a transaction for that long is cut
    off by the server.
    """

    url: str
    shard: str
    inline: int
    patience: float = 5.0

    @property
    def place(self) -> str:
        """Name the database without its secrets."""
        parts = urlsplit(self.url)
        return f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"


class PostgresTx(SqlTx):
    """`Tx` that remembers whether other replicas should look for work."""

    news = False

    def insert_runs(self, runs: Sequence[Run], tasks: Sequence[TaskRun]) -> None:
        self.news = True
        super().insert_runs(runs, tasks)

    def update_runs(self, updates: Sequence[RunUpdate]) -> None:
        self.news = True
        super().update_runs(updates)

    def request_cancel(self, run: str, reason: str) -> str | None:
        self.news = True
        return super().request_cancel(run, reason)


class PostgresBackend:
    """The writing connection. See `writer.Backend`."""

    name = "postgresql"

    def __init__(self, options: PostgresOptions) -> None:
        self._options = options
        self._session: PostgresSession | None = None
        self._tx: PostgresTx | None = None
        self._xid = 0
        self._hinted_at = 0.0
        self._server = ""

    def open(self) -> None:
        try:
            connection = connect(self._options, read_only=False)
        except psycopg.Error as error:
            raise StoreError(
                f"PostgreSQL at {self._options.place} cannot be reached: {first_line(error)}."
                " Check `store:` and the server."
            ) from error
        try:
            version = _version(connection)
            if not is_current(version):
                state = "has no schema yet" if version is None else f"has schema {version}, this service needs {HEAD}"
                raise StoreError(f"The database {self._options.place} {state}: run `tidegate migrate` first.")
        except BaseException:
            connection.close()
            raise
        self._use(connection)

    def migrate(self) -> None:
        try:
            connection = connect(self._options, read_only=False)
        except psycopg.Error as error:
            raise StoreError(f"PostgreSQL at {self._options.place} cannot be reached: {first_line(error)}.") from error
        with connection:
            is_current(_version(connection))
        try:
            upgrade_postgres(lambda: psycopg.connect(self._options.url, connect_timeout=10))
        except Exception as error:
            raise StoreError(f"The database {self._options.place} cannot be migrated: {first_line(error)}") from error

    def _use(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        self._session = PostgresSession(connection)
        if self._tx is None:
            self._tx = PostgresTx(self._session, self._options.inline)
        else:
            self._tx.rebind(self._session)
        self._server = str(connection.info.server_version)

    @property
    def _connected(self) -> PostgresSession:
        if self._session is None:
            raise psycopg.OperationalError("The database is not connected.")
        return self._session

    def begin(self) -> Tx:
        row = self._connected.begin(_BEGIN)
        self._xid = int(row[1])
        if self._tx is None:
            raise psycopg.OperationalError("The database is not connected.")
        return self._tx

    def commit(self) -> None:
        try:
            cursor = self._connected.connection.execute(b"COMMIT", prepare=False)
        except psycopg.Error:
            if self._connected.connection.closed and self._committed_after_all():
                return
            raise
        if cursor.statusmessage != "COMMIT":  # a failed transaction answers ROLLBACK
            raise psycopg.InternalError("The database rolled the transaction back at COMMIT.")

    def _committed_after_all(self) -> bool:
        """Ask a new connection what became of the transaction whose COMMIT was not answered."""
        end = time.monotonic() + _DOUBT
        wait = 0.05
        while time.monotonic() < end:
            try:
                self._reconnect()
                row = self._connected.connection.execute("SELECT txid_status(%s)", (self._xid,)).fetchone()
                if row is not None and row[0] != "in progress":
                    return bool(row[0] == "committed")
            except psycopg.Error:
                pass
            time.sleep(wait)
            wait = min(wait * 2, 1.0)
        return False

    def rollback(self) -> None:
        if self._session is not None and not self._session.connection.closed:
            with contextlib.suppress(psycopg.Error):
                self._session.connection.execute(b"ROLLBACK", prepare=False)

    def judge(self, error: Exception) -> Failure:
        return judge(error, lost=self._session is None or bool(self._session.connection.closed))

    def recover(self) -> None:
        if self._session is None or self._session.connection.closed:
            self._reconnect()
        connection = self._connected.connection
        try:
            connection.execute(
                "INSERT INTO settings (name, value) VALUES ('store.probe', %s) ON CONFLICT (name) DO UPDATE"
                " SET value = excluded.value",
                (self._options.shard,),
            )
        except psycopg.Error:
            self.rollback()
            raise

    def _reconnect(self) -> None:
        if self._session is not None:
            with contextlib.suppress(psycopg.Error):
                self._session.connection.close()
        self._use(connect(self._options, read_only=False))

    def settle(self) -> None:
        if self._tx is not None and self._tx.news and time.monotonic() - self._hinted_at >= _HINT_EVERY:
            self._tx.news = False
            self._hinted_at = time.monotonic()
            self._connected.connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, self._options.shard))

    def idle(self) -> float:
        with contextlib.suppress(psycopg.Error):
            self.settle()
        return _IDLE

    def close(self) -> None:
        if self._session is not None:
            with contextlib.suppress(psycopg.Error):
                self._session.connection.close()
            self._session = None

    def reader(self) -> ReadConnection:
        return PostgresReadConnection(self._options)

    def details(self) -> Mapping[str, Any]:
        return {"postgresql": self._server, "place": self._options.place}


class PostgresReadConnection:
    """A read-only connection. See `readers.ReadConnection`."""

    def __init__(self, options: PostgresOptions) -> None:
        self._session = PostgresSession(connect(options, read_only=True))
        self._reader = SqlReader(self._session)

    def begin(self) -> Reader:
        self._session.begin(_BEGIN_READ)
        return self._reader

    def end(self) -> None:
        with contextlib.suppress(psycopg.Error):
            if not self._session.connection.closed:
                self._session.connection.execute(b"ROLLBACK", prepare=False)

    def lost(self, error: Exception) -> bool:
        return judge(error, lost=bool(self._session.connection.closed)) is not Failure.DATA

    def close(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self._session.connection.close()


def connect(options: PostgresOptions, *, read_only: bool) -> "psycopg.Connection[tuple[Any, ...]]":
    """Connect with all that makes a session end when its other side is gone. Raises psycopg.Error, StoreError."""
    connection = psycopg.connect(
        options.url,
        autocommit=True,
        prepare_threshold=2,
        connect_timeout=5,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=15_000,
        application_name=f"tidegate {options.shard}"[:63],
    )
    try:
        connection.prepared_max = 400
        settings = [
            ("idle_in_transaction_session_timeout", f"{_millis(options.patience)}ms"),
            ("lock_timeout", f"{_millis(options.patience)}ms"),
            ("statement_timeout", "60s"),
        ]
        settings.append(("default_transaction_read_only", "on") if read_only else ("synchronous_commit", "on"))
        if (
            read_only
        ):  # pages are read in index order; without fresh statistics all that is left would be sorted for each
            settings.append(("enable_bitmapscan", "off"))
        for name, value in settings:
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        row = connection.execute("SHOW synchronous_commit").fetchone()
        if not read_only and (row is None or row[0] != "on"):
            raise StoreError(
                f"The database {options.place} cannot be made durable: synchronous_commit cannot be set to on."
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _millis(seconds: float) -> int:
    return max(1, round(seconds * 1000))  # 0 would mean no limit


def judge(error: Exception, *, lost: bool) -> Failure:
    """Say what a database error means; `lost`: the connection is gone."""
    if not isinstance(error, psycopg.Error):
        return Failure.DATA
    code = error.sqlstate or ""
    if code in _RETRY_CODES and not lost:
        return Failure.RETRY
    if lost or code in _STORE_CODES or code[:2] in _STORE_CLASSES:
        return Failure.STORE
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and not code:
        return Failure.STORE
    return Failure.DATA


def first_line(error: Exception) -> str:
    """Return the first line of a message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _version(connection: "psycopg.Connection[tuple[Any, ...]]") -> str | None:
    row = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])
