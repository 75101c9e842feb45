"""What only a file on a disk can show: locks, full disks, restarts, the way it is opened."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sensors.ports import Unavailable
from tests.support.stores import Each, add_runs, claim, do, event, ingest, run, uids
from tidegate.store.factory import open_store
from tidegate.store.records import StoredEvent
from tidegate.store.sqlite import SqliteBackend
from tidegate.store.store import GroupStore
from tidegate.store.tx import ItemRefused, Store, StoreError, Tx
from triggers.ports import LaneName


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file will be."""
    return tmp_path / "deep" / "store.db"


async def opened(path: Path, query: str = "") -> GroupStore:
    """Open a store."""
    store = open_store(f"sqlite:///{path}{query}", shard="one")
    await store.open()
    return store


async def healthy(store: Store) -> None:
    """Return when the store writes again."""
    async with asyncio.timeout(20):
        while not store.health().ok:
            await asyncio.sleep(0.005)


def pragma(store: GroupStore, name: str) -> Any:
    """Ask the writing connection for a setting."""
    backend = store._backend
    assert isinstance(backend, SqliteBackend)
    return backend._connection.execute(f"PRAGMA {name}").fetchone()[0]


async def test_it_is_opened_to_be_durable(path: Path) -> None:
    """The writing connection uses the write-ahead log, syncs every commit, maps no memory, frees pages by and by."""
    store = await opened(path)
    settings = {name: pragma(store, name) for name in ("journal_mode", "synchronous", "mmap_size", "auto_vacuum")}
    health = store.health()
    await store.close()

    assert settings == {"journal_mode": "wal", "synchronous": 2, "mmap_size": 0, "auto_vacuum": 2}
    assert health.details["sqlite"] == sqlite3.sqlite_version
    assert ("warning" in health.details) == (sqlite3.sqlite_version_info < (3, 51, 3))


async def test_it_is_still_there_after_a_restart(path: Path) -> None:
    """What was answered is in the file when it is opened again, and the file is sound."""
    store = await opened(path)
    await asyncio.gather(*[store.submit(Each(ingest), event(f"evt_{n}")) for n in range(50)])
    await store.close()
    again = await opened(path)
    rows, _ = await again.read(lambda reader: reader.events(limit=100))
    assert await again.submit(Each(ingest), event("other", id="evt_7")) == "evt_7"
    sound = pragma(again, "integrity_check")
    await again.close()

    assert len(rows) == 50
    assert sound == "ok"


_OPEN = """
import asyncio, sys
from tidegate.store.factory import open_store
async def main():
    store = open_store(sys.argv[1], shard="two")
    await store.open()
    await store.close()
asyncio.run(main())
print(sorted(name for name in ("alembic", "sqlalchemy", "psycopg") if name in sys.modules))
"""


def in_a_process(path: Path) -> "subprocess.CompletedProcess[str]":
    """Open the store in another process."""
    return subprocess.run(
        [sys.executable, "-c", _OPEN, f"sqlite:///{path}"], capture_output=True, text=True, check=False, timeout=60
    )


async def test_a_second_process_is_kept_off(path: Path) -> None:
    """Another process that opens the same file is told who has it; after close it may."""
    store = await opened(path)
    second = await asyncio.to_thread(in_a_process, path)
    await store.close()
    third = await asyncio.to_thread(in_a_process, path)

    assert f"is in use by process {os.getpid()}" in second.stderr
    assert "PostgreSQL" in second.stderr
    assert third.returncode == 0, third.stderr


async def test_opening_a_current_file_loads_no_migrations(path: Path) -> None:
    """A file that has the schema is opened without loading the libraries that only migrations need."""
    await (await opened(path)).close()
    process = await asyncio.to_thread(in_a_process, path)

    assert process.stdout.strip() == "[]", process.stderr


async def test_a_full_disk_loses_nothing(path: Path) -> None:
    """When the file cannot grow, items fail with Unavailable and none of them is half there; once there is room again
    the store accepts again by itself, and everything answered before and after is stored."""
    store = await opened(path, "?max_pages=200")
    write, answered, refused = Each(ingest), [], []
    reason = ""
    for n in range(60):
        try:
            answered.append(await store.submit(write, event(f"evt_{n:03}", data=os.urandom(20_000))))
        except Unavailable:
            refused.append(n)
            break
    assert refused
    while not reason:  # probes may succeed while small writes still fit: fill up what is left
        try:
            await store.submit(write, event(f"evt_x{len(answered)}", data=os.urandom(20_000)))
        except Unavailable as error:
            reason = str(error)
    failing = store.health()
    backend = store._backend
    assert isinstance(backend, SqliteBackend)
    backend._connection.execute("PRAGMA max_page_count = 100000")
    await healthy(store)
    answered.append(await store.submit(write, event("evt_after", data=os.urandom(200_000))))
    rows, _ = await store.read(lambda reader: reader.events(limit=500))
    sound = pragma(store, "integrity_check")
    await store.close()

    assert "full" in reason
    assert failing.ok or "full" in failing.reason
    assert set(answered) <= {row["uid"] for row in rows}
    assert f"evt_{refused[0]:03}" not in {row["uid"] for row in rows}
    assert sound == "ok"


async def test_a_locked_file_is_unavailable_until_it_is_free(path: Path) -> None:
    """While someone else holds the file's lock past the busy time-out, writes fail with Unavailable at once or soon;
    when the lock is gone the store recovers without being asked."""
    store = await opened(path, "?busy_timeout=0.05")
    thief = sqlite3.connect(path, isolation_level=None)
    thief.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        await store.submit(Each(ingest), event("evt_1"))
    with pytest.raises(Unavailable, match="locked"):
        await store.submit(Each(ingest), event("evt_2"))
    ok_before = store.health().ok
    thief.execute("ROLLBACK")
    thief.close()
    await healthy(store)
    answer = await store.submit(Each(ingest), event("evt_3"))
    rows, _ = await store.read(lambda reader: reader.events(limit=5))
    await store.close()

    assert not ok_before
    assert answer == "evt_3"
    assert [row["uid"] for row in rows] == ["evt_3"]


class _FailingOnce:
    """A connection that fails one COMMIT with an I/O error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.failed = False

    def execute(self, sql: str, *args: Any) -> Any:
        """Fail the first COMMIT."""
        if sql == "COMMIT" and not self.failed:
            self.failed = True
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return self._connection.execute(sql, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


async def test_a_failed_sync_opens_the_file_anew(path: Path) -> None:
    """After a failed fsync nothing is written over that connection any more: it is closed, the file opened again."""
    store = await opened(path)
    await store.submit(Each(ingest), event("evt_0"))
    backend = store._backend
    assert isinstance(backend, SqliteBackend)
    session = backend._session
    assert session is not None
    old = session.connection
    session.connection = _FailingOnce(old)  # type: ignore[assignment]  # stands in for a failing disk
    with pytest.raises(Unavailable, match="disk I/O error"):
        await store.submit(Each(ingest), event("evt_1"))
    await healthy(store)
    answer = await store.submit(Each(ingest), event("evt_2"))
    rows, _ = await store.read(lambda reader: reader.events(limit=5))
    await store.close()

    assert backend._session is None or backend._session.connection is not old
    with pytest.raises(sqlite3.ProgrammingError):
        old.execute("SELECT 1")
    assert answer == "evt_2"
    assert {row["uid"] for row in rows} == {"evt_0", "evt_2"}


async def test_the_log_is_folded_in(path: Path) -> None:
    """Under steady writes the writer checkpoints by itself, so that the write-ahead log stays small."""
    store = await opened(path)
    for start in range(0, 30_000, 2_000):
        items = [event(f"evt_{n:06}", data=b"x" * 400) for n in range(start, start + 2_000)]
        await do(store, lambda tx, items=items: tx.insert_events([StoredEvent(item) for item in items]))  # type: ignore[misc]
    size = path.with_name(path.name + "-wal").stat().st_size
    await store.close()

    assert size < 30_000_000


async def test_claims_never_scan_what_waits(path: Path) -> None:
    """Every statement of a claim finds its rows by an index, so that a long queue costs no more than a short one."""
    store = await opened(path)
    backend = store._backend
    assert isinstance(backend, SqliteBackend)
    await add_runs(store, *[run(f"r{n:04}", lane="a" if n % 2 else None) for n in range(1_300)])
    await add_runs(store, run("q", pipeline="q"))
    statements: list[str] = []
    backend._connection.set_trace_callback(statements.append)
    rows = await claim(store, concurrency={"p": 3})
    await do(store, lambda tx: tx.lock_lanes([LaneName("p", "a"), LaneName("p", "")]))
    backend._connection.set_trace_callback(None)
    plans = [
        step[3]
        for sql in statements
        if "FROM runs" in sql and not sql.startswith("--")
        for step in backend._connection.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
    ]
    await store.close()

    assert uids(rows) == ["r0000", "r0001", "r0002", "q"]
    assert len(plans) > 10
    assert [plan for plan in plans if plan.startswith("SCAN runs") and "INDEX" not in plan] == []


async def test_a_closed_store_says_so(path: Path) -> None:
    """Submitting before open is a programming error; a path that cannot be is a sentence."""
    with pytest.raises(RuntimeError, match="not open"):
        open_store(f"sqlite:///{path}", shard="one").submit(Each(ingest), event("evt_1"))
    path.parent.mkdir()
    path.write_bytes(b"this is no database at all, but it is long enough to look like one" * 20)
    with pytest.raises(StoreError, match="cannot be opened"):
        await opened(path)


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://host/x", "sqlite://", "nothing", "sqlite:///"])
def test_other_urls_are_refused(url: str) -> None:
    """A URL that names no store of ours is refused with the forms that do."""
    with pytest.raises(StoreError, match="sqlite:///"):
        open_store(url, shard="one")


async def test_huge_groups_and_rows_are_stored_whole(path: Path) -> None:
    """Any number of rows goes through the few sizes of statements, none missing, none doubled."""
    store = await opened(path)
    for count in (1, 2, 3, 5, 63, 64, 65, 255, 257, 700, 1_023):
        items = [event(f"evt_{count:04}_{n:04}") for n in range(count)]

        def write(tx: Tx, items: Any = items) -> int:
            known = tx.new_event_ids([_new_id(item) for item in items])
            tx.insert_events([StoredEvent(item) for item in items if known[item.sensor, item.id] == item.uid])
            return len(known)

        assert await do(store, write) == count
    rows, _ = await store.read(lambda reader: reader.events(limit=10_000))
    await store.close()

    assert len({row["uid"] for row in rows}) == len(rows) == 2_438


def _new_id(item: Any) -> Any:
    from tidegate.store.records import NewId

    return NewId(item.sensor, item.id, item.uid, 10**18)


async def test_too_large_a_value_is_refused_alone(path: Path) -> None:
    """A number that no column can hold is a data error of its item, not of the store."""
    store = await opened(path)
    write = Each(ingest)
    answers = await asyncio.gather(
        store.submit(write, event("evt_1")),
        store.submit(write, event("evt_2", time=2**80)),
        return_exceptions=True,
    )
    ok = store.health().ok
    await store.close()

    assert answers[0] == "evt_1"
    assert isinstance(answers[1], ItemRefused)
    assert ok
