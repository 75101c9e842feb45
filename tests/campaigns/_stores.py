"""The two stores of a campaign: where they are, how they are asked from outside, how they are proven whole.

Each store is made (schema and audit) before the first process and kept through all rounds. Asking uses the databases'
own drivers, read-only.
"""

import contextlib
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.campaigns._ledger import AUDIT_POSTGRES, AUDIT_SQLITE, Rows


class Place(Protocol):
    """One store under test."""

    name: str
    url: str

    def asking(self) -> contextlib.AbstractContextManager[Rows]:
        """Give a function that runs a query on what is committed now."""
        ...

    def integrity(self) -> str:
        """Return `ok`, or what is broken. No process of the service may run."""
        ...

    def integrity_after_kill(self, scratch: Path) -> str:
        """Return `ok`, or what is broken, in what a dead process left, without touching it."""
        ...

    def keep(self, folder: Path) -> None:
        """Leave a copy in a folder, as evidence."""
        ...


class SqlitePlace:
    """A file in the campaign's folder."""

    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._file = folder / "tidegate.db"
        self.url = f"sqlite:///{self._file}"

    def make(self) -> None:
        """Make schema and audit."""
        from tidegate.store.factory import migrate

        migrate(self.url)
        with contextlib.closing(sqlite3.connect(self._file)) as connection:
            for statement in AUDIT_SQLITE:
                connection.execute(statement)
            connection.commit()

    @contextlib.contextmanager
    def asking(self) -> Iterator[Rows]:
        with contextlib.closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=30)) as connection:
            yield lambda sql: connection.execute(sql).fetchall()

    def integrity(self) -> str:
        with contextlib.closing(sqlite3.connect(self._file, timeout=30)) as connection:
            return _verdict(connection)

    def integrity_after_kill(self, scratch: Path) -> str:
        scratch.mkdir(parents=True, exist_ok=True)
        for suffix in ("", "-wal"):  # the -shm is only an index, rebuilt from the log
            source = self._file.with_name(self._file.name + suffix)
            target = scratch / f"copy.db{suffix}"
            target.unlink(missing_ok=True)
            if source.exists():
                shutil.copyfile(source, target)
        with contextlib.closing(sqlite3.connect(scratch / "copy.db")) as connection:
            verdict = _verdict(connection)
        shutil.rmtree(scratch, ignore_errors=True)
        return verdict

    def keep(self, folder: Path) -> None:
        """The file stands in the folder already."""


class PostgresPlace:
    """A database on a server that the campaign runs."""

    name = "postgresql"

    def __init__(self, url: str) -> None:
        self.url = url

    def make(self) -> None:
        """Make the audit; the schema is there."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in AUDIT_POSTGRES:
                connection.execute(statement.encode())

    @contextlib.contextmanager
    def asking(self) -> Iterator[Rows]:
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:

            def rows(sql: str) -> Sequence[Sequence[Any]]:
                return connection.execute(sql.encode()).fetchall()

            yield rows

    def integrity(self) -> str:
        """PostgreSQL has no such pragma: amcheck compares every index with its table, where it is installed."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            try:
                connection.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
                indexes = (
                    "SELECT c.oid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a"
                    " ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relnamespace = 'public'::regnamespace"
                )
                for (name,) in connection.execute(indexes.encode()).fetchall():
                    connection.execute("SELECT bt_index_check(%s::regclass, true)", (name,))
            except psycopg.errors.UndefinedFile:
                return "ok"  # the server was installed without its extensions
            except psycopg.Error as error:
                return str(error).splitlines()[0]
        return "ok"

    def integrity_after_kill(self, scratch: Path) -> str:
        """A killed client cannot break the server's files."""
        return "ok"

    def keep(self, folder: Path) -> None:
        dump = shutil.which("pg_dump")
        if dump is not None:
            with (folder / "tidegate.sql").open("wb") as out:
                subprocess.run([dump, self.url], stdout=out, check=False)


def _verdict(connection: sqlite3.Connection) -> str:
    lines = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)")]
    return "; ".join(lines)


@contextlib.contextmanager
def open_place(store: str, folder: Path) -> Iterator[SqlitePlace | PostgresPlace]:
    """Make a store; it lives as long as the block. Raises PostgresMissing."""
    if store == "sqlite":
        place = SqlitePlace(folder)
        place.make()
        yield place
        return
    from tests.support.postgres import fresh_database, running_server

    with running_server() as server, fresh_database(server) as url:
        there = PostgresPlace(url)
        there.make()
        yield there
