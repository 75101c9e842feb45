"""The SQLite store: one file, one writing process, one writing connection that alone checkpoints.

WAL with `synchronous=FULL`: COMMIT returns after the log was synced. A lock file keeps a second process off the file
(two checkpointing processes can corrupt a database with SQLite before 3.51.3). Checkpoints run after a group's
futures are resolved. After an I/O error the connection is given up and the file opened anew before anything else is
written.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sensors.clock import Clock
from tidegate.store.migrate import create_sqlite, is_current, upgrade_sqlite
from tidegate.store.reader import Reader
from tidegate.store.readers import ReadConnection
from tidegate.store.sql import SqlTx
from tidegate.store.sql_reader import SqlReader
from tidegate.store.sqlite_session import SqliteSession
from tidegate.store.tx import StoreError, StoreInUse, Tx
from tidegate.store.writer import Failure

OLDEST = (3, 35, 0)
SAFE = (3, 51, 3)
_CACHED = 512
_CHECKPOINT_PAGES = 4_000
_IDLE = 30.0
_PROBE_BYTES = 64 * 1024
_CANNOT_WRITE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
}
_KEEPS_CONNECTION = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM}


@dataclass(frozen=True, slots=True)
class SqliteOptions:
    """Where the file is, how it is used. `busy_timeout` is seconds; `max_pages` bounds the file (None: the disk)."""

    path: Path
    inline: int
    busy_timeout: float = 30.0
    max_pages: int | None = None


class SqliteBackend:
    """The writing connection. See `writer.Backend`."""

    name = "sqlite"

    def __init__(self, options: SqliteOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._session: SqliteSession | None = None
        self._tx: SqlTx | None = None
        self._lock: int | None = None
        self._reopen = False
        self._dirty = 0.0  # pages that the log grew by since the last checkpoint, estimated
        self._changes = 0

    def open(self) -> None:
        if sqlite3.sqlite_version_info < OLDEST:
            raise StoreError(
                f"SQLite {sqlite3.sqlite_version} is too old; use a Python with SQLite {_dotted(OLDEST)} or newer."
            )
        path = self._options.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._take_lock(path.with_name(path.name + ".lock"))
            connection = self._connect("rwc")
            try:
                if _is_empty(connection):
                    create_sqlite(connection)
                elif not is_current(_version(connection)):
                    upgrade_sqlite(connection)
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"The store {path} cannot be opened: {error}. Check the path, its rights and the disk."
            ) from error
        self._use(connection)

    def migrate(self) -> None:
        try:
            self.open()
        finally:
            self.close()

    def _take_lock(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise StoreInUse(
                f"The store {self._options.path} is in use by process {holder}: stop it, or give this service another"
                " `store:`; several processes need PostgreSQL."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self._options.path))}?mode={mode}",
            uri=True,
            isolation_level=None,
            cached_statements=_CACHED,
            check_same_thread=False,
            timeout=self._options.busy_timeout,
        )
        try:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            connection.execute("PRAGMA synchronous = FULL")
            (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
            if journal != "wal" or synchronous != 2:
                raise StoreError(
                    f"The store {self._options.path} cannot be made durable (journal {journal}, synchronous"
                    f" {synchronous}): put it on a local disk."
                )
            connection.execute("PRAGMA mmap_size = 0")
            connection.execute("PRAGMA cache_size = -16384")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute(f"PRAGMA wal_autocheckpoint = {4 * _CHECKPOINT_PAGES}")  # the net below `settle`
            connection.execute("PRAGMA journal_size_limit = 67108864")
            if self._options.max_pages is not None:
                connection.execute(f"PRAGMA max_page_count = {self._options.max_pages}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _use(self, connection: sqlite3.Connection) -> None:
        self._session = SqliteSession(connection, self._clock)
        self._tx = SqlTx(self._session, self._options.inline)
        self._reopen = False
        self._dirty = float(_CHECKPOINT_PAGES)  # a log left by a crash is folded in with the first group
        self._changes = connection.total_changes

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._session is None:
            raise sqlite3.ProgrammingError("The store is closed.")
        return self._session.connection

    def begin(self) -> Tx:
        self._connection.execute("BEGIN IMMEDIATE")
        if self._session is None or self._tx is None:
            raise sqlite3.ProgrammingError("The store is closed.")
        self._session.tick()
        return self._tx

    def commit(self) -> None:
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        if self._session is None:
            return
        try:
            if self._session.connection.in_transaction:
                self._session.connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._reopen = True

    def judge(self, error: Exception) -> Failure:
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return (
                Failure.STORE
                if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error)
                else Failure.DATA
            )
        if code & 0xFF not in _CANNOT_WRITE:
            return Failure.DATA
        if code & 0xFF not in _KEEPS_CONNECTION:
            self._reopen = True
        return Failure.STORE

    def recover(self) -> None:
        if self._reopen or self._session is None:
            self._disconnect()
            self._use(self._connect("rw"))
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO blobs (uid, data) VALUES ('probe', zeroblob(?))", (_PROBE_BYTES,))
            connection.execute(
                "INSERT INTO settings (name, value) VALUES ('store.probe', ?) ON CONFLICT (name) DO UPDATE"
                " SET value = excluded.value",
                (str(self._clock.now()),),
            )
            connection.execute("DELETE FROM blobs WHERE uid = 'probe'")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.judge(error)
            self.rollback()
            raise

    def settle(self) -> None:
        changes = self._connection.total_changes
        self._dirty += 8 + (changes - self._changes) / 4
        self._changes = changes
        if self._dirty >= _CHECKPOINT_PAGES:
            self._checkpoint()

    def _checkpoint(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._dirty = 0.0

    def idle(self) -> float:
        with contextlib.suppress(sqlite3.Error):
            if self._dirty > _CHECKPOINT_PAGES / 8:
                self._checkpoint()
            (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
            (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
            if free > 4_096 and free > pages // 4:
                self._connection.execute("PRAGMA incremental_vacuum(1024)").fetchall()
                return 0.5
        return _IDLE

    def close(self) -> None:
        self._disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _disconnect(self) -> None:
        if self._session is not None:
            with contextlib.suppress(sqlite3.Error):
                self._session.connection.close()
            self._session = None
            self._tx = None

    def reader(self) -> ReadConnection:
        return SqliteReadConnection(self._options, self._clock)

    def details(self) -> Mapping[str, Any]:
        details: dict[str, Any] = {"sqlite": sqlite3.sqlite_version, "path": str(self._options.path)}
        if sqlite3.sqlite_version_info < SAFE:
            details["warning"] = (
                f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug (fixed in {_dotted(SAFE)}); a single writing"
                " connection avoids it: do not open the file for writing from elsewhere while the service runs."
            )
        return details


class SqliteReadConnection:
    """A read-only connection. See `readers.ReadConnection`."""

    def __init__(self, options: SqliteOptions, clock: Clock) -> None:
        self._connection = sqlite3.connect(
            f"file:{quote(str(options.path))}?mode=ro",
            uri=True,
            isolation_level=None,
            cached_statements=_CACHED,
            check_same_thread=False,
            timeout=options.busy_timeout,
        )
        self._connection.execute("PRAGMA query_only = 1")
        self._connection.execute("PRAGMA mmap_size = 0")
        self._session = SqliteSession(self._connection, clock)
        self._reader = SqlReader(self._session)

    def begin(self) -> Reader:
        self._connection.execute("BEGIN")
        self._session.tick()
        return self._reader

    def end(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def lost(self, error: Exception) -> bool:
        code = getattr(error, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in _CANNOT_WRITE

    def close(self) -> None:
        self._connection.close()


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def _version(connection: sqlite3.Connection) -> str | None:
    """Return the schema's version, None for a file without one."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
    if found is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
