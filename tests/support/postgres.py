"""A real PostgreSQL for tests: one server per test session on a free loopback port, one database per test.

`TIDEGATE_TEST_POSTGRES=postgresql://…` names a running server to use instead. The server never syncs to disk: what is
tested here is what we do, not what PostgreSQL does.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

MISSING = (
    "PostgreSQL is not installed: run `apt-get install postgresql`, or set TIDEGATE_TEST_POSTGRES to a server's URL."
)
_TEMPLATE = "tidegate_template"


class PostgresMissing(Exception):
    """There is no PostgreSQL to test against; the sentence says how to get it."""


@dataclass(frozen=True)
class Server:
    """A running server. `url` ends without a database's name."""

    url: str
    pid: int | None = None

    def database(self, name: str) -> str:
        """Return the URL of a database."""
        return f"{self.url}/{name}"

    def execute(self, sql: str) -> None:
        """Run a statement on the maintenance database."""
        with psycopg.connect(self.database("postgres"), autocommit=True) as connection:
            connection.execute(sql.encode())


def find_bin() -> Path:
    """Return the folder of the server's programs. Raises PostgresMissing."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).parent
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "postgres").exists():
            return folder
    raise PostgresMissing(MISSING)


def free_port() -> int:
    """Return a loopback port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_postgres(*command: str) -> list[str]:
    """Run as the user `postgres` when we are root, which the server refuses to be."""
    return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else list(command)


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """Start a server with a migrated template database; stop it by its pid. Raises PostgresMissing."""
    outside = os.environ.get("TIDEGATE_TEST_POSTGRES")
    if outside:
        server = Server(outside.rstrip("/"))
        _make_template(server)
        yield server
        return
    programs = find_bin()
    with tempfile.TemporaryDirectory(prefix="tidegate-postgres-", ignore_cleanup_errors=True) as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        data = str(Path(folder) / "data")
        init = as_postgres(str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8")
        subprocess.run(init, check=True, capture_output=True, cwd="/")
        port = free_port()
        options = {
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "max_wal_size": "256MB",
            "autovacuum": "off",
            "deadlock_timeout": "100ms",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = as_postgres(
            str(programs / "postgres"), "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder, *settings
        )
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
        try:
            server = Server(f"postgresql://postgres@127.0.0.1:{port}", process.pid)
            _await_ready(server, process)
            _make_template(server)
            yield server
        finally:
            stop = as_postgres(str(programs / "pg_ctl"), "-D", data, "stop", "-m", "immediate", "-w")
            subprocess.run(stop, check=False, capture_output=True, cwd="/")
            process.wait(20)


def _await_ready(server: Server, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 20
    while True:
        try:
            server.execute("SELECT 1")
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.02)  # asking again is the only way to know
        else:
            return


def _make_template(server: Server) -> None:
    from tidegate.store.factory import migrate

    server.execute(f"DROP DATABASE IF EXISTS {_TEMPLATE}")
    server.execute(f"CREATE DATABASE {_TEMPLATE}")
    migrate(server.database(_TEMPLATE))


@contextlib.contextmanager
def fresh_database(server: Server, *, empty: bool = False) -> Iterator[str]:
    """Make a database (with our schema, or empty), give its URL, drop it afterwards."""
    name = f"t_{uuid.uuid4().hex[:16]}"
    source = "template0" if empty else _TEMPLATE
    server.execute(f"CREATE DATABASE {name} TEMPLATE {source}")
    try:
        yield server.database(name)
    finally:
        server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def wipe(url: str) -> None:
    """Delete every row of a database with our schema: much quicker than a new database."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        tables = [row[0] for row in found if row[0] != "alembic_version"]
        connection.execute("; ".join(f'DELETE FROM "{table}"' for table in tables).encode())
