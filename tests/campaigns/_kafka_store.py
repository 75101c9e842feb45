"""The store of the kafka campaign: a PostgreSQL that can be away for a while, and what is read from it by plain SQL."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg

from tests.campaigns._kafka_checker import SENSOR, TOPIC, TRIGGER, Ledger
from tests.support.postgres import as_postgres, find_bin, free_port

DATABASE = "campaign"
_BEYOND = f"""
    SELECT e.id, c.shard, c.value FROM events e
    JOIN cursors c ON c.sensor = e.sensor AND c.shard = '{TOPIC}/' || split_part(e.id, '/', 2)
    WHERE e.sensor = '{SENSOR}' AND c.value <> ''
    AND split_part(e.id, '/', 3)::bigint >= (c.value::json ->> 'next')::bigint LIMIT 5
"""

# An independent witness of positions that fall, however soon they rise again.
_WITNESS = (
    "CREATE TABLE fallen (n BIGSERIAL PRIMARY KEY, shard TEXT, old BIGINT, new BIGINT)",
    """CREATE FUNCTION note_fallen() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO fallen (shard, old, new)
    SELECT NEW.shard, o, n FROM (SELECT (OLD.value::json ->> 'next')::bigint AS o, (NEW.value::json ->> 'next')::bigint
    AS n) AS both_of WHERE n < o; RETURN NULL; END $$""",
    """CREATE TRIGGER witness AFTER UPDATE ON cursors FOR EACH ROW WHEN (OLD.value <> '' AND NEW.value <> '')
    EXECUTE FUNCTION note_fallen()""",
)


class Database:
    """One server with one database, which can be stopped as a power cut would (`immediate`) and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = str(folder / "data")
        self._programs = find_bin()
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/{DATABASE}"

    def make(self) -> None:
        """Make the server's files, start it, and make the database with our schema and a witness."""
        from tidegate.store.factory import migrate

        if os.geteuid() == 0:
            shutil.chown(self._folder, "postgres")
        init = [str(self._programs / "initdb"), "-D", self._data, "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8"]
        subprocess.run(as_postgres(*init), check=True, capture_output=True, cwd="/")
        self.start()
        with psycopg.connect(self._maintenance, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}".encode())
        migrate(self.url)
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in _WITNESS:
                connection.execute(statement.encode())

    @property
    def _maintenance(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start, and wait until it answers. What is killed loses nothing that it wrote: no fsync is needed."""
        options = {"fsync": "off", "max_connections": "200", "shared_buffers": "64MB", "deadlock_timeout": "100ms"}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        where = ["-D", self._data, "-h", "127.0.0.1", "-p", str(self.port), "-k", str(self._folder)]
        self._process = subprocess.Popen(
            as_postgres(str(self._programs / "postgres"), *where, *settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        end = time.monotonic() + 60
        while True:
            try:
                with psycopg.connect(self._maintenance, connect_timeout=5):
                    return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.05)  # asking again is the only way to know

    def stop(self) -> None:
        """Stop at once, whatever goes on."""
        stop = as_postgres(str(self._programs / "pg_ctl"), "-D", self._data, "stop", "-m", "immediate", "-w")
        subprocess.run(stop, check=False, capture_output=True, cwd="/")
        if self._process is not None:
            self._process.wait(30)

    def keep(self, folder: Path) -> None:
        """Leave a copy in a folder, as evidence."""
        dump = shutil.which("pg_dump")
        if dump is not None:
            with (folder / "tidegate.sql").open("wb") as out:
                subprocess.run([dump, self.url], stdout=out, check=False)

    def rows(self, sql: str) -> Sequence[Sequence[Any]]:
        """Run one query on what is committed now. Raises psycopg.Error when the server is away."""
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
            return connection.execute(sql.encode()).fetchall()

    def cursors(self) -> dict[int, int]:
        """Return the durable position of each partition."""
        return _positions(self.rows(f"SELECT shard, value FROM cursors WHERE sensor = '{SENSOR}'"))

    def beyond(self) -> list[str]:
        """Return events that lie beyond their partition's position, in one snapshot."""
        return [f"event {id_} is durable, and {shard} stands at {value}" for id_, shard, value in self.rows(_BEYOND)]

    def ledger(self) -> Ledger:
        """Read all that is checked."""
        cursors = self.rows(f"SELECT shard, value, epoch FROM cursors WHERE sensor = '{SENSOR}'")
        counters = self.rows("SELECT kind, name, outcome, sum(n) FROM counters GROUP BY kind, name, outcome")
        sums: dict[tuple[str, str], int] = {}
        for kind, name, outcome, n in counters:
            if name.partition("|")[0] in (SENSOR, TRIGGER):
                key = (kind, "" if kind in ("candidates", "matched") else outcome)
                sums[key] = sums.get(key, 0) + int(n)
        caused: dict[str, int] = {}
        for (event,) in self.rows("SELECT event FROM run_events"):
            caused[event] = caused.get(event, 0) + 1
        return Ledger(
            events=[
                (uid, id_, str(json.loads(bytes(data))["id"]))
                for uid, id_, data in self.rows(f"SELECT uid, id, data FROM events WHERE sensor = '{SENSOR}'")
            ],
            runs=[(key, generation) for key, generation in self.rows("SELECT key, generation FROM runs")],
            caused=caused,
            cursors=_positions([row[:2] for row in cursors]),
            counters=sums,
            dead_letters=int(self.rows("SELECT count(*) FROM dead_letters")[0][0]),
            fallen=[
                (shard, old, new) for shard, old, new in self.rows("SELECT shard, old, new FROM fallen ORDER BY n")
            ],
            epochs=sum(int(epoch) for shard, _, epoch in cursors if "/" in shard),
        )


def _positions(rows: Sequence[Sequence[Any]]) -> dict[int, int]:
    return {
        int(shard.rpartition("/")[2]): int(json.loads(value)["next"])
        for shard, value in rows
        if shard.startswith(f"{TOPIC}/") and value
    }


@contextlib.contextmanager
def running_database() -> Iterator[Database]:
    """Run it until the block ends, in a temporary folder, since the server runs as another user."""
    with tempfile.TemporaryDirectory(prefix="tidegate-postgres-", ignore_cleanup_errors=True) as folder:
        database = Database(Path(folder))
        try:
            database.make()
            yield database
        finally:
            database.stop()
