"""What only several replicas on one PostgreSQL, or a lost connection, can show."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest

from sensors.ports import Unavailable
from tests.support.postgres import Server, fresh_database
from tests.support.stores import Each, add_runs, claim, do, event, ingest, run, uids
from tidegate.store.factory import migrate, open_store
from tidegate.store.migrate import HEAD, upgrade_postgres
from tidegate.store.records import ClaimAsk, NewId, StoredEvent, Timer
from tidegate.store.tx import Store, StoreError, Tx
from triggers.ports import LaneName, RunKeyName, RunKeyState

pytestmark = [pytest.mark.postgres, pytest.mark.integration]


@pytest.fixture
async def pair(database: str) -> AsyncIterator[tuple[Store, Store]]:
    """Two replicas on one database."""
    stores = open_store(database, shard="one"), open_store(database, shard="two")
    for store in stores:
        await store.open()
    yield stores
    for store in stores:
        await store.close()


@pytest.fixture
def empty(postgres_server: Server) -> Iterator[str]:
    """A database without our schema."""
    with fresh_database(postgres_server, empty=True) as url:
        yield url


class Meet:
    """A rendezvous inside two transactions: both have begun before either goes on."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2, timeout=10)
        self._first = threading.local()

    def __call__(self) -> None:
        """Wait for the other one, on the first pass of each writer thread."""
        if not getattr(self._first, "done", False):
            self._first.done = True
            self._barrier.wait()


async def test_two_replicas_agree_on_who_was_first(pair: tuple[Store, Store]) -> None:
    """When two replicas get the same ids at once, one uid stands for each and exactly one event is stored."""
    meet = Meet()

    def write(tx: Tx, shard: str) -> dict[str, str]:
        meet()
        ids = [NewId("s", f"id{n}", f"evt_{shard}_{n:02}") for n in range(50)]
        known = tx.new_event_ids(ids if shard == "one" else ids[::-1])
        fresh = [item for item in ids if known["s", item.id] == item.uid]
        tx.insert_events([StoredEvent(event(item.uid, sensor="s", id=item.id)) for item in fresh])
        return {id_: uid for (_, id_), uid in known.items()}

    answers = await asyncio.gather(
        *[store.submit(Each(write), name) for store, name in zip(pair, ("one", "two"), strict=True)]
    )
    rows, _ = await pair[0].read(lambda reader: reader.events(limit=100))

    assert answers[0] == answers[1]
    assert {row["id"]: row["uid"] for row in rows} == answers[0]


async def test_one_key_starts_one_run(pair: tuple[Store, Store]) -> None:
    """Two replicas that lock the same keys at once, in opposite order, start one run per key."""
    meet = Meet()
    names = [RunKeyName("trigger/t", "p", f"k{n}") for n in range(10)]

    def write(tx: Tx, shard: str) -> int:
        meet()
        states = tx.lock_run_keys(names if shard == "one" else names[::-1])
        tx.lock_lanes([LaneName("p", "a"), LaneName("p", "")])
        new = [name for name, state in states.items() if state.generation == 0]
        tx.insert_runs([run(f"run_{shard}_{name.key}", key=name.key, lane="a") for name in new], [])
        tx.put_run_keys([RunKeyState(name, 1, f"run_{shard}_{name.key}") for name in new])
        return len(new)

    answers = await asyncio.gather(
        *[store.submit(Each(write), name) for store, name in zip(pair, ("one", "two"), strict=True)]
    )
    rows, _ = await pair[0].read(lambda reader: reader.runs(limit=100))

    assert sorted(answers) == [0, 10]
    assert sorted(row["key"] for row in rows) == sorted(name.key for name in names)


async def test_concurrency_holds_over_replicas(pair: tuple[Store, Store]) -> None:
    """Replicas that claim at the same time never get more runs of a pipeline than it allows, nor the same run twice."""
    await add_runs(
        pair[0], *[run(f"r{n:03}") for n in range(60)], *[run(f"q{n}", pipeline="q", lane="a") for n in range(9)]
    )
    taken: list[str] = []
    for _ in range(6):
        asks = [
            claim(store, 100, holder=name, concurrency={"p": 7}) for store, name in zip(pair, ("a", "b"), strict=True)
        ]
        for rows in await asyncio.gather(*asks):
            taken += uids(rows)
    found, _ = await pair[0].read(lambda reader: reader.runs(limit=100, state="running"))

    assert len(taken) == len(set(taken))
    assert sorted(taken) == sorted([*[f"r{n:03}" for n in range(7)], "q0"])
    assert {row["uid"] for row in found} == set(taken)


async def test_a_pipeline_being_claimed_elsewhere_is_skipped(pair: tuple[Store, Store]) -> None:
    """While one replica claims from a pipeline the other one passes it by instead of waiting."""
    await add_runs(pair[0], run("r1"), run("r2"), run("q1", pipeline="q"))
    loop = asyncio.get_running_loop()
    claimed, go_on = asyncio.Event(), asyncio.Event()

    def hold(tx: Tx) -> list[str]:
        rows = tx.claim_runs([ClaimAsk("a", 1, 60_000_000, 0)], {})
        loop.call_soon_threadsafe(claimed.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(20)
        return uids(list(rows[0]))

    first = asyncio.ensure_future(do(pair[0], hold))
    await claimed.wait()
    second = await claim(pair[1], holder="b")
    go_on.set()

    assert await first == ["r1"]
    assert uids(second) == ["q1"]
    assert uids(await claim(pair[1], holder="b")) == ["r2"]


async def test_a_lane_is_not_entered_by_a_run_that_was_committed_late(pair: tuple[Store, Store]) -> None:
    """A run that got its number first but was committed last waits while a younger one of its lane is under way."""
    loop = asyncio.get_running_loop()
    inserted, go_on = asyncio.Event(), asyncio.Event()

    def slow(tx: Tx) -> None:
        tx.insert_runs([run("old", lane="a")], [])
        loop.call_soon_threadsafe(inserted.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(20)

    late = asyncio.ensure_future(do(pair[0], slow))
    await inserted.wait()
    await add_runs(pair[1], run("young", lane="a"))
    first = await claim(pair[1])
    go_on.set()
    await late
    second = await claim(pair[1])

    assert uids(first) == ["young"]
    assert uids(second) == []


async def test_timers_are_taken_by_one_replica(pair: tuple[Store, Store]) -> None:
    """A due timer is handed to one replica only."""
    await do(pair[0], lambda tx: tx.set_timers([Timer(n, "k", str(n)) for n in range(100)]))
    takes = [do(store, lambda tx: tx.due_timers(30)) for store in (*pair, *pair)]
    keys = [timer.key for timers in await asyncio.gather(*takes) for timer in timers]

    assert len(keys) == len(set(keys)) == 100


async def test_a_deadlock_is_run_again(pair: tuple[Store, Store]) -> None:
    """Two transactions that block each other both succeed: one is undone and run again."""
    for name in ("a", "b"):
        await do(pair[0], lambda tx, name=name: tx.put_setting(name, "0"))  # type: ignore[misc]
    meet, attempts = threading.Barrier(2, timeout=10), []

    def write(tx: Tx, names: tuple[str, str]) -> None:
        attempts.append(names)
        tx.put_setting(names[0], "1")
        if len(attempts) <= 2:
            meet.wait()
        tx.put_setting(names[1], "1")

    await asyncio.gather(pair[0].submit(Each(write), ("a", "b")), pair[1].submit(Each(write), ("b", "a")))

    assert len(attempts) > 2
    assert all(store.health().ok for store in pair)


async def kill_connections(server: Server, like: str) -> None:
    """End every session of ours whose name contains `like`."""
    sql = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%{like}%'"
    await asyncio.to_thread(server.execute, sql)


async def healthy(store: Store) -> None:
    """Return when the store writes again."""
    async with asyncio.timeout(20):
        while not store.health().ok:
            await asyncio.sleep(0.01)


async def test_a_lost_connection_is_made_anew(postgres_server: Server, database: str) -> None:
    """A connection that dies inside a transaction fails its items with Unavailable; nothing of them is stored; the
    store recovers by itself, without anyone submitting."""
    store = open_store(database, shard="mortal")
    await store.open()
    loop = asyncio.get_running_loop()

    def write(tx: Tx, item: Any) -> str:
        uid = ingest(tx, item)
        asyncio.run_coroutine_threadsafe(kill_connections(postgres_server, "mortal"), loop).result(20)
        return uid

    with pytest.raises(Unavailable):
        await store.submit(Each(write), event("evt_1"))
    broken = store.health()
    await healthy(store)
    answers = await asyncio.gather(*[store.submit(Each(ingest), event(f"evt_{n}")) for n in range(1, 4)])
    rows, _ = await store.read(lambda reader: reader.events(limit=10))
    await store.close()

    assert not broken.ok
    assert "cannot write now" in broken.reason
    assert answers == ["evt_1", "evt_2", "evt_3"]
    assert len(rows) == 3


async def test_a_reader_connects_again(postgres_server: Server, database: str) -> None:
    """A reader whose connection was ended connects again and answers."""
    store = open_store(database, shard="reading")
    await store.open()
    for _ in range(4):
        await store.read(lambda reader: reader.queue())
    await kill_connections(postgres_server, "reading")
    answers = [await store.read(lambda reader: reader.queue()) for _ in range(4)]
    await store.close()

    assert answers == [{}] * 4


@pytest.mark.parametrize("committed", [True, False])
async def test_a_commit_without_answer_is_settled(
    postgres_server: Server, database: str, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """When the connection dies during COMMIT, the database is asked what became of it: the caller hears the truth."""
    store = open_store(database, shard="doubtful")
    await store.open()
    await do(store, lambda tx: tx.now())
    execute = psycopg.Connection.execute

    def dying(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        if query == b"COMMIT":
            monkeypatch.undo()
            if committed:
                execute(self, query, *args, **options)
            self.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return execute(self, query, *args, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", dying)
    future = store.submit(Each(ingest), event("evt_1"))
    if committed:
        assert await future == "evt_1"
    else:
        with pytest.raises(Unavailable):
            await future
    await healthy(store)
    found = await store.read(lambda reader: reader.event("evt_1"))
    await store.close()

    assert (found is not None) == committed


async def test_a_database_without_schema_is_refused(empty: str) -> None:
    """Opening a database without schema fails with the sentence that names `tidegate migrate`; after that it opens."""
    store = open_store(empty, shard="one")
    with pytest.raises(StoreError, match="has no schema yet: run `tidegate migrate` first"):
        await store.open()
    await asyncio.to_thread(migrate, empty)
    await asyncio.to_thread(migrate, empty)
    again = open_store(empty, shard="one")
    await again.open()
    assert await again.submit(Each(ingest), event("evt_1")) == "evt_1"
    await again.close()


async def test_a_database_of_the_first_version_is_migrated(empty: str) -> None:
    """`tidegate migrate` brings a database from version 1 to 2; what is in it stays, and the service opens then."""
    await asyncio.to_thread(upgrade_postgres, lambda: psycopg.connect(empty), "0001")
    with psycopg.connect(empty) as connection:
        connection.execute("INSERT INTO seen_objects VALUES ('s', 'a', 't', 0, 'present', 1, 2, '')")
    store = open_store(empty, shard="one")
    with pytest.raises(StoreError, match="has schema 0001, this service needs"):
        await store.open()
    await asyncio.to_thread(migrate, empty)
    again = open_store(empty, shard="one")
    await again.open()
    seen = await again.read(lambda reader: reader.seen_range("s", "", None, 9))
    open_actions = await again.read(lambda reader: reader.open_actions("s", ["a"]))
    await again.close()

    assert [item.key for item in seen] == ["a"]
    assert open_actions == {}


@pytest.mark.parametrize(
    ("version", "sentence"),
    [("0000", "has schema 0000, this service needs"), (f"{int(HEAD) + 2:04}", "run a newer service")],
)
async def test_a_foreign_schema_is_refused(database: str, version: str, sentence: str) -> None:
    """An older schema, and one from too far in the future, are refused with the remedy; the next version is not."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", (version,))
    store = open_store(database, shard="one")
    with pytest.raises(StoreError, match=sentence):
        await store.open()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", (f"{int(HEAD) + 1:04}",))
    ahead = open_store(database, shard="one")
    await ahead.open()
    await ahead.close()


async def test_an_unreachable_server_is_one_sentence() -> None:
    """A server that is not there is named without the password."""
    store = open_store("postgresql://me:hunter2@127.0.0.1:1/db", shard="one")
    with pytest.raises(StoreError, match=r"PostgreSQL at 127.0.0.1:1/db cannot be reached") as caught:
        await store.open()

    assert "hunter2" not in str(caught.value)


async def test_other_replicas_hear_of_new_runs(database: str) -> None:
    """A replica is told on its loop when another one inserted runs, not when it did so itself."""
    heard: list[threading.Thread] = []
    hint = asyncio.Event()

    def on_hint() -> None:
        heard.append(threading.current_thread())
        hint.set()

    listening = open_store(database, shard="one", on_hint=on_hint)
    other = open_store(database, shard="two")
    await listening.open()
    await other.open()
    async with asyncio.timeout(10):
        await hint.wait()  # once at the start, for what came before
    hint.clear()
    await add_runs(listening, run("mine"))
    await add_runs(other, run("theirs"))
    async with asyncio.timeout(10):
        await hint.wait()
    await listening.close()
    await other.close()

    assert set(heard) == {threading.main_thread()}
    assert len(heard) == 2


async def test_a_replica_that_stands_still_in_a_transaction_holds_nobody_up(database: str) -> None:
    """Its locks end with its session, within the patience of the others; what it was writing is not half there."""
    still, other = (open_store(database, shard=name, patience=0.2) for name in ("still", "other"))
    await still.open()
    await other.open()
    loop = asyncio.get_running_loop()
    locked, go_on = asyncio.Event(), threading.Event()
    name = RunKeyName("trigger/t", "p", "k")

    def stand(tx: Tx) -> None:
        tx.lock_run_keys([name])
        loop.call_soon_threadsafe(locked.set)
        go_on.wait(20)
        tx.put_run_keys([RunKeyState(name, 1, "run_still")])

    try:
        halted = asyncio.ensure_future(do(still, stand))
        await locked.wait()
        await do(other, lambda tx: tx.put_run_keys([RunKeyState(name, 1, "run_other")]))
        go_on.set()
        with pytest.raises(Unavailable):
            await halted
        kept = await do(other, lambda tx: tx.lock_run_keys([name]))
        assert kept[name].last_run == "run_other"
    finally:
        go_on.set()
        await still.close()
        await other.close()
